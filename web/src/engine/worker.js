/** The engine in a Web Worker; `README.md` describes the messages. */
import { segment } from './segment.js';

/** Running calls by their id. @type {Map<number, AbortController>} */
const running = new Map();

self.onmessage = async ({ data: { type, id, ...given } }) => {
  if (type === 'cancel') {
    running.get(id)?.abort();
    return;
  }
  if (type !== 'segment') return;
  const controller = new AbortController();
  running.set(id, controller);
  try {
    const result = await segment({
      ...given,
      onProgress: (progress) => self.postMessage({ type: 'progress', id, ...progress }),
      signal: controller.signal,
    });
    const buffers = Object.values(result)
      .filter((value) => ArrayBuffer.isView(value))
      .map((value) => value.buffer);
    self.postMessage({ type: 'result', id, result }, [...new Set(buffers)]);
  } catch (error) {
    const { name, message, stack } = error;
    self.postMessage({ type: 'error', id, name, message, ...(name === 'Error' && { stack }) });
  } finally {
    running.delete(id);
  }
};
