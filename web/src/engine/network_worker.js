/** `label` in a Web Worker. */
import { answerWith } from './apart.js';
import { label } from './network.js';

answerWith(label);
