/** `prepare` in a Web Worker. */
import { answerWith } from './apart.js';
import { prepare } from './prepare.js';

answerWith(prepare);
