/**
 * The work of one thread on a chain of convolutions, see `chain.js`.
 *
 * All threads go through the same list of jobs, one for each plane of each layer. The rows of a
 * plane are taken in chunks by whoever is free; a job ends when all of its chunks are done.
 */
import { firstRow } from './winograd.js';

/** Rows in a chunk. */
export const CHUNK = 8;
/** Words of the control array before those of the jobs. */
const STOPPED = 0;
const HEAD = 1;
const SPINS = 2000;

/** How long the control array is: two words for each job, which has a pair of numbers. */
export const controlWords = (jobs) => HEAD + jobs.length;

/**
 * @param {ReturnType<import('./chain.js').planChain>} plan
 * @param {WebAssembly.Memory} memory
 * @param {Int32Array} control zeros, `controlWords` of them, shared by all threads
 * @param {Record<string, Function>} code exported functions
 * @param {number} thread
 */
export function makeThread(plan, memory, control, code, thread) {
  const { layers, head, jobs, dims, table, zero } = plan;
  const bytes = new Uint8Array(memory.buffer);
  const floats = new Float32Array(memory.buffer);
  const labels =
    plan.classes <= 256
      ? new Uint8Array(memory.buffer, plan.labels, plan.own.count)
      : new Uint16Array(memory.buffer, plan.labels, plan.own.count);
  // Features, logits, and the tiles of a work item.
  const scratch = plan.scratch + thread * plan.scratchBytes;
  const logits = scratch + plan.featureBytes;
  const tiles = logits + plan.logitBytes;

  /** Address of an input plane of a layer. */
  const plane = (layer, z) =>
    z < 0 || z >= dims[2] ? zero : layer.ring + (z % layer.count) * layer.planeBytes;

  /** Normalise rows of a plane of the volume. */
  function normalise(z, first, count) {
    const target = layers[0];
    const { low, high } = plan.input;
    const base = plane(target, z) / 4;
    for (let y = first; y < first + count; y++) {
      let from = plan.volume + (z * dims[1] + y) * dims[0] + low[0];
      let to = base + (y - target.origin[1]) * target.sides[0] + low[0] - target.origin[0];
      for (let x = low[0]; x < high[0]; x++) floats[to++] = table[bytes[from++]];
    }
  }

  /** Where the output of a layer goes, in the next layer's input or in the scratch memory. */
  function target(number, z, y) {
    const { low } = layers[number].out;
    const next = layers[number + 1];
    if (!next) return scratch;
    const row = (y - next.origin[1]) * next.sides[0] + low[0] - next.origin[0];
    return plane(next, z) + row * next.voxel;
  }

  /** The three input planes of an output plane. */
  const planesOf = (layer, z) => [-1, 0, 1].map((i) => plane(layer, z + i * layer.reach));

  /** Compute rows of the output plane of a layer. */
  function convolve(number, z, y, count) {
    const layer = layers[number];
    const skip = (y - layer.out.low[1]) * layer.row;
    const planes = planesOf(layer, z).map((at) => at + skip);
    code[`rows${number}`](...planes, target(number, z, y), layer.weights, count);
    if (number === layers.length - 1) decide(z, y, 1, count);
  }

  /** The same by tiles, for four rows that are as far apart as the dilation. */
  function convolveTiles(number, z, item) {
    const layer = layers[number];
    const { grid, out, parts, voxel, outVoxel } = layer;
    const { dilation, blocks, groups } = grid;
    const first = firstRow(item, dilation);
    const count = Math.min(4, Math.ceil((out.high[1] - out.low[1] - first) / dilation));
    if (count <= 0) return;
    const planes = planesOf(layer, z);
    const [points, made] = [tiles + parts.points, tiles + parts.products];
    const width = out.high[0] - out.low[0];
    let to = target(number, z, out.low[1] + first);
    for (let block = 0; block < blocks; block++) {
      const x = block * groups * 4 * dilation;
      for (let i = 0; i < 3; i++) {
        code[`down${number}`](planes[i] + first * layer.row + x * voxel, tiles);
        code[`across${number}`](tiles, points + i * 36 * parts.point);
      }
      code[`products${number}`](points, layer.weights, made);
      code[`up${number}`](made);
      code[`out${number}`](made, layer.bias, to + x * outVoxel, width - x, count);
    }
    if (number === layers.length - 1) decide(z, out.low[1] + first, dilation, count);
  }

  /** Compute the logits of rows, and take the class of the largest, the first one in a tie. */
  function decide(z, y, step, count) {
    const { low, high } = plan.own;
    const width = high[0] - low[0];
    const { stride, classes, weights } = head;
    code.head(scratch, scratch, scratch, logits, weights, count);
    let from = logits / 4;
    for (let row = 0; row < count; row++) {
      let to = ((z - low[2]) * (high[1] - low[1]) + y + row * step - low[1]) * width;
      for (const end = to + width; to < end; to++, from += stride) {
        let best = floats[from];
        let label = 0;
        for (let c = 1; c < classes; c++) {
          const value = floats[from + c];
          if (value > best) {
            best = value;
            label = c;
          }
        }
        labels[to] = label;
      }
    }
  }

  return {
    /** Number of jobs. */
    count: jobs.length / 2,

    /** Do a part of a job, and wait until others have done theirs. @returns {boolean} false if stopped */
    work(job) {
      const [layer, z] = [jobs[2 * job], jobs[2 * job + 1]];
      const { out = plan.input, grid = null } = layers[layer] ?? {};
      const chunks = grid ? grid.items : Math.ceil((out.high[1] - out.low[1]) / CHUNK);
      const [taken, done] = [HEAD + 2 * job, HEAD + 2 * job + 1];
      for (;;) {
        const chunk = Atomics.add(control, taken, 1);
        if (chunk >= chunks) break;
        const first = out.low[1] + chunk * CHUNK;
        const count = Math.min(CHUNK, out.high[1] - first);
        if (grid) convolveTiles(layer, z, chunk);
        else if (layer < 0) normalise(z, first, count);
        else convolve(layer, z, first, count);
        if (Atomics.add(control, done, 1) + 1 === chunks) Atomics.notify(control, done);
      }
      for (let spins = 0; ; spins++) {
        const found = Atomics.load(control, done);
        if (found === chunks) return !Atomics.load(control, STOPPED);
        if (Atomics.load(control, STOPPED)) return false;
        if (spins > SPINS) Atomics.wait(control, done, found, 100);
      }
    },

    /** Make all threads stop. */
    stop() {
      Atomics.store(control, STOPPED, 1);
    },
  };
}
