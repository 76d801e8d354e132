/** Labels of a conformed volume by a model. */
import { runChain } from './chain.js';
import { UserError } from './errors.js';
import { readOnnx } from './onnx.js';
import { stepsOfOnnx } from './steps.js';

/**
 * Label a volume.
 * @param {object} given
 * @param {{ manifest: any, weights: ArrayBuffer | import('./steps.js').Step[] }} given.model
 * @param {Uint8Array} given.volume
 * @param {number[]} given.dims
 * @param {import('./boxes.js').Box} given.box
 * @param {Float32Array} given.table normalised value of each intensity
 * @param {number} given.threads
 * @param {any} [given.ort] settings of ONNX Runtime Web, see `ort.js`
 * @param {(done: number, total: number) => void} [given.onProgress]
 * @param {AbortSignal} [given.signal]
 * @returns {Promise<{ labels: Uint8Array | Uint16Array, engine: string }>}
 */
export async function label({ model, ort, ...given }) {
  const { manifest, weights } = model;
  const name = manifest.name ?? 'the model';
  const steps = Array.isArray(weights)
    ? weights
    : stepsOfOnnx(readOnnx(new Uint8Array(weights), name));
  if (steps) {
    const classes = steps.at(-1).outputs;
    if (classes !== manifest.labels.length) {
      throw new UserError(
        `${name}: has ${classes} classes, but ${manifest.labels.length} labels; correct the labels`,
      );
    }
    return { labels: await runChain({ steps, name, ...given }), engine: 'brainchop WebAssembly' };
  }
  // Loaded for networks that need it only.
  const { runOnnx } = await import('./ort.js');
  const found = await runOnnx({ manifest, weights, name, ort, ...given });
  return { labels: found.labels, engine: `onnxruntime-web ${found.version}` };
}
