/** `segment` in a Web Worker. */
import { answerWith } from './apart.js';
import { segment } from './segment.js';

answerWith(segment);
