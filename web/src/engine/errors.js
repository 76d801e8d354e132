/** A failure that the user can do something about; its message is one line. */
export class UserError extends Error {
  constructor(message) {
    super(message);
    this.name = 'UserError';
  }
}

/**
 * Throw if a call was cancelled.
 * @param {AbortSignal} [signal]
 */
export function check(signal) {
  if (signal?.aborted) throw new DOMException('The segmentation was cancelled.', 'AbortError');
}
