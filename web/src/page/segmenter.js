// The engine in its worker: one job at a time.

// How long a cancelled job may take to end by itself, ms.
const PATIENCE = 3000;

export class Segmenter {
  #worker = null;
  #job = null;
  #number = 0;

  /**
   * Segment a scan, see the engine's README.
   *
   * Rejects with an error whose `name` is that of the engine's error: UserError, AbortError, or a
   * defect's.
   */
  async run(scan, model, options, onProgress, signal) {
    signal.throwIfAborted();
    this.#worker ??= this.#start();
    this.#number += 1;
    signal.addEventListener('abort', () => this.#cancel());
    return new Promise((resolve, reject) => {
      this.#job = { id: this.#number, resolve, reject, onProgress };
      // Buffers are copied, not transferred: another model may follow.
      this.#worker.postMessage({ type: 'segment', id: this.#number, scan, model, options });
    });
  }

  #cancel() {
    const job = this.#job;
    if (!job) return;
    this.#worker.postMessage({ type: 'cancel', id: job.id });
    setTimeout(() => {
      if (this.#job === job) this.#end(job, 'AbortError', 'cancelled');
    }, PATIENCE);
  }

  #start() {
    const worker = new Worker(new URL('../engine/worker.js', import.meta.url), { type: 'module' });
    worker.addEventListener('message', ({ data }) => {
      const job = this.#job;
      if (data.id !== job?.id) return;
      if (data.type === 'progress') {
        job.onProgress(data);
      } else {
        this.#job = null;
        if (data.type === 'result') job.resolve(data.result);
        else job.reject(named(data.name, data.message));
      }
    });
    worker.addEventListener('error', (event) => {
      event.preventDefault();
      if (this.#job) this.#end(this.#job, 'Error', event.message ?? 'the worker could not be loaded');
      else this.#stop();
    });
    return worker;
  }

  // A worker that does not answer, or has failed, is replaced.
  #end(job, name, message) {
    this.#job = null;
    this.#stop();
    job.reject(named(name, message));
  }

  #stop() {
    this.#worker.terminate();
    this.#worker = null;
  }
}

const named = (name, message) => Object.assign(new Error(message), { name });
