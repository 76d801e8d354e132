/** Functions in a Web Worker of their own: the two ends of one call. */

/**
 * In the worker: answer the one message that it gets with the result of a function.
 *
 * Typed arrays in the result are transferred, not copied.
 * @param {(given: any) => Promise<any>} work
 */
export function answerWith(work) {
  self.onmessage = async ({ data: given }) => {
    try {
      const onProgress = (...progress) => self.postMessage({ progress });
      const result = await work({ ...given, onProgress });
      const values = ArrayBuffer.isView(result) ? [result] : Object.values(result);
      const buffers = values.filter(ArrayBuffer.isView).map((value) => value.buffer);
      self.postMessage({ result }, [...new Set(buffers)]);
    } catch ({ name, message, stack }) {
      self.postMessage({ error: { name, message, ...(name === 'Error' && { stack }) } });
    }
  };
}

/**
 * Give a worker its message, and wait for the answer; the worker ends with it.
 *
 * Browsers free the memory of WebAssembly only then, and a worker that is cancelled need not answer.
 * @param {Worker} worker
 * @param {any} given copied, except for files and shared memory
 * @param {(...progress: any) => void} [onProgress]
 * @param {AbortSignal} [signal]
 * @returns {Promise<any>} rejects with an error of the same `name` and `message`
 */
export async function askOnce(worker, given, onProgress = () => {}, signal = undefined) {
  try {
    signal?.throwIfAborted();
    return await new Promise((resolve, reject) => {
      const fail = (error) => reject(Object.assign(new Error(error.message), error));
      worker.onmessage = ({ data: { progress, result, error } }) => {
        if (progress) onProgress(...progress);
        else if (error) fail(error);
        else resolve(result);
      };
      worker.onerror = (event) => {
        event.preventDefault();
        fail({ name: 'Error', message: event.message ?? 'the worker could not be loaded' });
      };
      signal?.addEventListener('abort', () => reject(signal.reason));
      worker.postMessage(given);
    });
  } finally {
    worker.terminate();
  }
}

/**
 * Call a function in a worker of its own where there are Web Workers, else here.
 * @param {(given: any) => Promise<any>} work what the worker answers with
 * @param {() => Worker} start
 * @param {any} given
 * @param {(...progress: any) => void} onProgress
 * @param {AbortSignal} [signal]
 */
export async function runApart(work, start, given, onProgress, signal) {
  // ONNX Runtime defines a `Worker` in Node, too.
  if (typeof self === 'undefined') return work({ ...given, onProgress, signal });
  return askOnce(start(), given, onProgress, signal);
}
