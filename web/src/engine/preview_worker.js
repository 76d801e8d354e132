/** `preview` in a Web Worker. */
import { answerWith } from './apart.js';
import { preview } from './preview.js';

answerWith(preview);
