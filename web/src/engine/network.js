/** Labels of a conformed volume by a model. */
import { boundingBox } from './boxes.js';
import { runChain } from './chain.js';
import { UserError } from './errors.js';
import { findGpu, runOnGpu } from './gpu.js';
import { readOnnx } from './onnx.js';
import { stepsOfOnnx } from './steps.js';

// Sides of the cube that a GPU's labels are checked on, and the share that has to be equal.
const [SIDE, AGREEMENT] = [12, 0.99];

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
 * @param {{ software?: boolean } | null} [given.gpu] see `findGpu`; null: use none
 * @param {(done: number, total: number) => void} [given.onProgress]
 * @param {AbortSignal} [given.signal]
 * @returns {Promise<{ labels: Uint8Array | Uint16Array, engine: string, warnings?: string[] }>}
 */
export async function label({ model, ort, gpu = {}, ...given }) {
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
    const onGpu = await tryGpu({ steps, name, gpu, ...given });
    if (onGpu.labels) return { ...onGpu, engine: 'brainchop WebGPU' };
    const labels = await runChain({ steps, name, ...given });
    return { ...onGpu, labels, engine: 'brainchop WebAssembly' };
  }
  // Loaded for networks that need it only.
  const { runOnnx } = await import('./ort.js');
  const found = await runOnnx({ manifest, weights, name, ort, ...given });
  return { labels: found.labels, engine: `onnxruntime-web ${found.version}` };
}

/**
 * Labels by a GPU, if there is one and it agrees with WebAssembly on a small cube, where voxels
 * with two labels that are nearly as likely may differ.
 */
async function tryGpu({ gpu, ...given }) {
  const device = gpu && (await findGpu(gpu).catch(() => null));
  if (!device) return {};
  try {
    const labels = await runOnGpu({ device, ...given });
    const cube = cubeIn(labels, given.dims, given.box);
    const expected = await runChain({ ...given, box: cube, onProgress: () => {} });
    const equal = sameShare(labels, expected, given.dims, cube);
    if (equal >= AGREEMENT) return { labels };
    throw new Error(`${Math.round(100 * (1 - equal))} % of its labels are wrong`);
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    return { warnings: [`the GPU was not used: ${error.message}`] };
  } finally {
    device.destroy();
  }
}

/** A small cube in the middle of what is labelled. */
function cubeIn(labels, dims, box) {
  const near = boundingBox(labels, dims) ?? box;
  const low = near.low.map((n, axis) => {
    const start = ((n + near.high[axis]) >> 1) - SIDE / 2;
    return Math.max(box.low[axis], Math.min(start, box.high[axis] - SIDE));
  });
  return { low, high: low.map((n, axis) => Math.min(n + SIDE, box.high[axis])) };
}

/** Share of the voxels in a box whose labels are equal. */
function sameShare(labels, expected, dims, { low, high }) {
  let [equal, count] = [0, 0];
  for (let z = low[2]; z < high[2]; z++) {
    for (let y = low[1]; y < high[1]; y++) {
      for (let x = low[0]; x < high[0]; x++, count++) {
        const i = (z * dims[1] + y) * dims[0] + x;
        equal += labels[i] === expected[i];
      }
    }
  }
  return equal / count;
}
