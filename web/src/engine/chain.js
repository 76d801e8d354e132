/**
 * Networks that are chains of convolutions, computed plane by plane.
 *
 * Of the input of each layer only those planes are kept that the layer needs for its next output
 * plane: 2 d + 1 of them for a dilation of d. All layers advance together, so that no volume of
 * features is ever held and nothing is computed twice. Only the voxels that the labels in the box
 * depend on are computed. Where memory does not suffice, the box is computed in parts, one after the
 * other, so that 2 GB suffice for any MeshNet; what two parts depend on is computed for both.
 */
import { pasted } from './boxes.js';
import { check, UserError } from './errors.js';
import { CHUNK, controlWords, makeThread } from './chain_jobs.js';
import { arranged, padded, rowsOf } from './kernel.js';
import { assemble, features } from './wasm.js';
import { codesOf, memoryOf, tiling, transformedWeights } from './winograd.js';

const PAGE = 65536;
// Bytes; 2 GB less what the browser and the shown scan take.
const MOST = 0.92e9;
// Parts into which the rows of a box are divided where it takes more.
const PARTS = [1, 2, 3, 4, 6, 8, 12, 16];
const ALIGNMENT = 64;
// Milliseconds after which messages, such as that of a cancellation, are looked for.
const BREATH = 100;

/**
 * Plan the memory and the jobs of a chain.
 * @param {ReturnType<typeof widened>} steps
 * @param {number[]} dims of the volume
 * @param {{ low: number[], high: number[] }} own box whose labels are wanted
 * @param {Float32Array} table normalised value of each intensity
 * @param {number} threads
 */
export function planChain(steps, dims, own, table, threads) {
  const hidden = steps.slice(0, -1);
  const last = steps.at(-1);
  let size = ALIGNMENT;
  const reserve = (bytes) => {
    const at = size;
    size += Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
    return at;
  };
  const layers = [];
  let out = own;
  for (const step of [...hidden].reverse()) {
    const reach = ((step.size - 1) / 2) * step.dilation;
    const origin = out.low.map((n) => n - reach);
    const [width, height] = out.low.map((n, axis) => out.high[axis] - n);
    const grid = step.size === 3 && step.inputs > 1 ? tiling(width, height, step.dilation) : null;
    const sides = grid?.sides ?? [width + 2 * reach, height + 2 * reach];
    const voxel = 4 * padded(step.inputs);
    const planeBytes = sides[0] * sides[1] * voxel;
    layers.unshift({ reach, origin, sides, voxel, planeBytes, out, grid, count: 2 * reach + 1 });
    out = {
      low: origin.map((n) => Math.max(0, n)),
      high: out.high.map((n, axis) => Math.min(dims[axis], n + reach)),
    };
  }
  const width = own.high[0] - own.low[0];
  const codes = {};
  const content = [];
  const place = (values) => {
    const at = reserve(values.byteLength);
    content.push([at, values]);
    return at;
  };
  for (const [i, layer] of layers.entries()) {
    const step = hidden[i];
    const next = layers[i + 1];
    const { voxel, grid } = layer;
    const row = layer.sides[0] * voxel;
    const outRow = (next ? next.sides[0] : width) * 4 * padded(step.outputs);
    const shape = {
      ...step,
      voxel,
      row,
      stepX: step.dilation * voxel,
      stepY: step.dilation * row,
      // The rows of a work item go to rows that are as far apart, or one after the other.
      outRow: grid && next ? outRow * step.dilation : outRow,
      width: layer.out.high[0] - layer.out.low[0],
    };
    layer.row = row;
    layer.ring = reserve(layer.count * layer.planeBytes);
    if (grid) {
      layer.parts = memoryOf(grid, step.inputs, step.outputs);
      layer.outVoxel = 4 * padded(step.outputs);
      layer.weights = place(transformedWeights(step, grid.tiles, step.weight));
      layer.bias = place(Float32Array.from({ length: padded(step.outputs) }, (_, o) => step.bias[o] ?? 0));
      for (const [name, code] of Object.entries(codesOf(shape, grid, features.fused))) codes[name + i] = code;
    } else {
      layer.weights = place(arranged(shape, step.weight, step.bias));
      codes[`rows${i}`] = rowsOf(shape, features.fused);
    }
  }
  const inner = 4 * padded(last.inputs);
  const stride = padded(last.outputs);
  const shape = {
    ...last, voxel: inner, row: width * inner, stepX: 0, stepY: 0, outRow: width * stride * 4, width,
  };
  codes.head = rowsOf(shape, features.fused);
  const head = {
    stride, classes: last.outputs, weights: place(arranged(shape, last.weight, last.bias, -Infinity)),
  };
  const jobs = jobsOf(layers, out, own);
  const count = own.high.reduce((product, n, axis) => product * (n - own.low[axis]), 1);
  const featureBytes = CHUNK * width * inner;
  const logitBytes = CHUNK * width * stride * 4;
  const tileBytes = Math.max(...layers.map(({ parts }) => parts?.total ?? 0));
  const scratchBytes = Math.ceil((featureBytes + logitBytes + tileBytes) / ALIGNMENT + 1) * ALIGNMENT;
  const plan = {
    layers,
    head,
    jobs,
    dims,
    table,
    input: out,
    own: { ...own, count },
    classes: last.outputs,
    zero: reserve(Math.max(...layers.map((layer) => layer.planeBytes))),
    volume: reserve(dims[0] * dims[1] * dims[2]),
    labels: reserve(count * (last.outputs > 256 ? 2 : 1)),
    scratch: reserve(threads * scratchBytes),
    scratchBytes,
    featureBytes,
    logitBytes,
  };
  return { plan, codes, content, pages: Math.ceil(size / PAGE) };
}

/**
 * The steps with their weights by place. Features have two channels at least: kernels write four at
 * once, and beside a single one there is no space for them.
 */
function widened(steps) {
  return steps.map((step, i) => {
    const { kernel, strides: [x, y, z, input, output] } = step;
    const inputs = i ? Math.max(2, step.inputs) : step.inputs;
    const outputs = i < steps.length - 1 ? Math.max(2, step.outputs) : step.outputs;
    const bias = new Float32Array(outputs);
    bias.set(step.bias);
    const weight = (i, j, k, c, o) =>
      c < step.inputs && o < step.outputs ? kernel[i * x + j * y + k * z + c * input + o * output] : 0;
    return { ...step, inputs, outputs, bias, weight };
  });
}

/** Pairs of layer (-1 for the input) and plane, in an order in which each has what it needs. */
function jobsOf(layers, input, own) {
  const jobs = [];
  const outs = [input, ...layers.map((layer) => layer.out)];
  const made = outs.map((out) => out.low[2]);
  const need = (level, z) => {
    for (; made[level] <= z; made[level]++) {
      if (level) {
        const last = made[level] + layers[level - 1].reach;
        need(level - 1, Math.min(last, outs[level - 1].high[2] - 1));
      }
      jobs.push(level - 1, made[level]);
    }
  };
  for (let z = own.low[2]; z < own.high[2]; z++) need(layers.length, z);
  return Int32Array.from(jobs);
}

/** Start a thread that waits for a message. */
async function spawn() {
  if (typeof Worker !== 'undefined') {
    return new Worker(new URL('./chain_worker.js', import.meta.url), { type: 'module' });
  }
  const name = 'node:worker_threads';
  const threads = await import(/* @vite-ignore */ name);
  return new threads.Worker(new URL('./chain_worker.js', import.meta.url));
}

/** Whether threads can share memory. */
export const canShare = () =>
  typeof SharedArrayBuffer !== 'undefined' && globalThis.crossOriginIsolated !== false;

/**
 * Label the voxels of a box.
 * @param {object} given
 * @param {import('./steps.js').Step[]} given.steps
 * @param {Uint8Array} given.volume the whole conformed volume
 * @param {number[]} given.dims
 * @param {{ low: number[], high: number[] }} given.box
 * @param {Float32Array} given.table normalised value of each intensity
 * @param {number} given.threads
 * @param {string} given.name of the model, for messages
 * @param {number} [given.most] bytes that the network may take; where the whole box takes more, it
 *   is computed in parts
 * @param {(done: number, total: number) => void} [given.onProgress]
 * @param {AbortSignal} [given.signal]
 * @returns {Promise<Uint8Array | Uint16Array>} labels of the volume, 0 outside of the box
 */
export async function runChain({
  steps, volume, dims, box, table, threads, name, most = MOST, onProgress = () => {}, signal,
}) {
  if (!features.simd) {
    throw new UserError('this browser has no WebAssembly SIMD; use a browser from 2023 or later');
  }
  const shared = threads > 1 && canShare();
  const count = shared ? threads : 1;
  const parts = partsOf(widened(steps), dims, box, table, count, most, name);
  const pages = Math.max(...parts.map((part) => part.pages));
  const memory = allocate(pages, shared, name);
  const costs = parts.map(({ plan }) => costsOf(plan, steps));
  const total = costs.reduce((sum, each) => sum + each.at(-1), 0);
  const { classes } = parts[0].plan;
  const labels = new (classes <= 256 ? Uint8Array : Uint16Array)(volume.length);
  let done = 0;
  for (const [i, { plan, codes, content }] of parts.entries()) {
    const bytes = new Uint8Array(memory.buffer);
    // Borders of planes begin at 0.
    if (i) bytes.fill(0);
    for (const [at, values] of content) new Float32Array(memory.buffer, at, values.length).set(values);
    bytes.set(volume, plan.volume);
    const module = await WebAssembly.compile(assemble(codes, { pages, shared }));
    const tell = (job) => onProgress(done + costs[i][job], total);
    await runPart({ plan, module, memory, control: controlOf(plan, shared), count, tell, signal });
    pasted(labels, dims, plan.own, new labels.constructor(memory.buffer, plan.labels, plan.own.count));
    done += costs[i].at(-1);
  }
  onProgress(total, total);
  return labels;
}

/** Plans for as few parts of a box as fit into memory. */
function partsOf(steps, dims, { low, high }, table, threads, most, name) {
  let least = Infinity;
  for (const number of PARTS) {
    const rows = Math.ceil((high[1] - low[1]) / number);
    const plans = [];
    for (let y = low[1]; y < high[1]; y += rows) {
      const own = {
        low: [low[0], y, low[2]],
        high: [high[0], Math.min(y + rows, high[1]), high[2]],
      };
      plans.push(planChain(steps, dims, own, table, threads));
    }
    const bytes = PAGE * Math.max(...plans.map(({ pages }) => pages));
    if (bytes <= most) return plans;
    least = Math.min(least, bytes);
  }
  throw fault(name, least, `more than the ${(most / 1e9).toFixed(1)} GB that a page may use`);
}

/** Compute one part, with helpers that end with it. */
async function runPart({ plan, module, memory, control, count, tell, signal }) {
  const { exports } = await WebAssembly.instantiate(module, { env: { memory } });
  const thread = makeThread(plan, memory, control, exports, 0);
  const helpers = await Promise.all(Array.from({ length: count - 1 }, spawn));
  try {
    helpers.forEach((helper, i) => helper.postMessage({ plan, memory, control, module, thread: i + 1 }));
    let last = performance.now();
    for (let job = 0; job < thread.count; job++) {
      thread.work(job);
      if (performance.now() - last > BREATH) {
        tell(job);
        await new Promise((resolve) => setTimeout(resolve));
        check(signal);
        last = performance.now();
      }
    }
  } finally {
    thread.stop();
    helpers.forEach((helper) => helper.terminate());
  }
}

/**
 * What threads tell each other. Each part has its own, so that a helper that starts late finds its
 * part done while the memory serves the next one.
 */
const controlOf = ({ jobs }, shared) =>
  new Int32Array(new (shared ? SharedArrayBuffer : ArrayBuffer)(4 * controlWords(jobs)));

const fault = (name, bytes, what) => {
  const gigabytes = (bytes / 1e9).toFixed(1);
  return new UserError(
    `${name}: needs ${gigabytes} GB of memory, ${what}; use a smaller model, or brainchop-segment`,
  );
};

function allocate(pages, shared, name) {
  try {
    return new WebAssembly.Memory({ initial: pages, ...(shared && { maximum: pages, shared }) });
  } catch {
    throw fault(name, pages * PAGE, 'more than this browser gives');
  }
}

/** Work up to the end of each job, in thousands of operations. */
function costsOf(plan, steps) {
  const each = plan.layers.map(({ out }, i) => {
    const { size, inputs, outputs } = steps[i];
    const area = (out.high[0] - out.low[0]) * (out.high[1] - out.low[1]);
    return Math.ceil((size ** 3 * inputs * outputs * area) / 1000);
  });
  let sum = 0;
  return Array.from({ length: plan.jobs.length / 2 }, (_, job) => {
    return (sum += each[plan.jobs[2 * job]] ?? 0);
  });
}
