/** Networks that are no chains of convolutions, computed by ONNX Runtime Web. */
import { sidesOf } from './boxes.js';
import { canShare } from './chain.js';
import { check, UserError } from './errors.js';
import { readOnnx } from './onnx.js';

// Bytes that a tile may take; 2 GB less what the browser and the shown scan take.
const MOST = 1.3e9;
// Parts into which an axis is divided.
const PARTS = [1, 2, 3, 4, 6, 8];
// Values for each voxel that are held at once, where a manifest does not say.
const HELD = 96;

/**
 * Load the runtime.
 * @param {{ module?: any, wasmPaths?: any }} [settings] a loaded module, and where its files are
 * @param {number} threads
 */
export async function loadOrt(settings = {}, threads = 1) {
  const ort = settings.module ?? (await import('onnxruntime-web/wasm'));
  ort.env.wasm.numThreads = canShare() ? threads : 1;
  if (settings.wasmPaths) ort.env.wasm.wasmPaths = settings.wasmPaths;
  return ort;
}

/** Start a session. */
export async function openSession(ort, weights, name) {
  try {
    return await ort.InferenceSession.create(new Uint8Array(weights), { executionProviders: ['wasm'] });
  } catch (error) {
    const reason = String(error?.message ?? error).split('\n')[0];
    throw new UserError(`${name}: cannot be run by ONNX Runtime Web (${reason})`);
  }
}

/** @returns {Promise<{ labels: Uint8Array | Uint16Array, version: string }>} */
export async function runOnnx({
  manifest, weights, name, volume, dims, box, table, threads, ort: settings, onProgress = () => {}, signal,
}) {
  const ort = await loadOrt(settings, threads);
  const session = await openSession(ort, weights, name);
  const graph = readOnnx(new Uint8Array(weights), name);
  const classes = manifest.labels.length;
  const labels = new (classes > 256 ? Uint16Array : Uint8Array)(volume.length);
  const tiles = tilesOf(manifest, classes, dims, box, name);
  // A single channel is that of class 1: where its probability is above one half.
  const limit = graph.nodes.findLast(({ kind }) => kind !== 'Identity').kind === 'Sigmoid' ? 0.5 : 0;
  try {
    for (const [done, tile] of tiles.entries()) {
      onProgress(done, tiles.length);
      check(signal);
      const input = inputOf(tile, volume, dims, table);
      const first = manifest.channels_first !== false;
      const shape = first ? [1, 1, ...tile.shape] : [1, ...tile.shape, 1];
      const given = new ort.Tensor('float32', input, shape);
      const result = await session.run({ [graph.inputs[0]]: given });
      const logits = result[graph.outputs[0]];
      decide(logits, tile, labels, dims, classes, first, limit, name);
      // Their memory is given back now, where browsers can do that, not some time later.
      for (const { buffer } of [input, logits.data]) buffer.transfer?.(0);
    }
    onProgress(tiles.length, tiles.length);
  } catch (error) {
    if (error instanceof UserError || error?.name === 'AbortError') throw error;
    const reason = String(error?.message ?? error).split('\n')[0];
    throw new UserError(`${name}: failed in ONNX Runtime Web (${reason}); use brainchop-segment`);
  } finally {
    await session.release();
  }
  return { labels, version: ort.env.versions?.web ?? ort.env.versions?.common ?? '' };
}

/**
 * Cubes of networks that take no other shape, or tiles wide enough for the labels of the whole: of
 * those with which memory suffices, the ones with the fewest voxels in all.
 */
function tilesOf({ reach, block, held }, classes, dims, box, name) {
  if (block) return cubes(dims, block);
  const [radius, stride] = reach ?? [Infinity, 1];
  const parts = (axis, number) => {
    const [length, low, high] = [dims[axis], box.low[axis], box.high[axis]];
    const step = Math.ceil((high - low) / number);
    const found = [];
    for (let start = low; start < high; start += step) {
      const stop = Math.min(start + step, high);
      const first = Math.max(0, Math.floor((start - radius) / stride) * stride);
      const last = Math.min(length, Math.ceil((stop + radius) / stride) * stride);
      found.push({ own: [start, stop], outer: [first, Math.ceil((last - first) / stride) * stride] });
    }
    return found;
  };
  // Measured: the runtime takes twice the features. Logits are in its memory, and copied.
  const bytes = 4 * (2 * (held ?? HELD) + 1 + 2 * classes);
  const [xs, ys, zs] = [0, 1, 2].map((axis) => (reach ? PARTS : [1]).map((number) => parts(axis, number)));
  const widths = (list) => list.map(({ outer }) => outer[1]);
  const product = (axes, of) => axes.reduce((result, list) => result * of(widths(list)), 1);
  const [best] = xs
    .flatMap((x) => ys.flatMap((y) => zs.map((z) => [x, y, z])))
    .filter((axes) => product(axes, (all) => Math.max(...all)) * bytes <= MOST)
    .sort((one, other) => voxels(one) - voxels(other));
  if (!best) throw new UserError(`${name}: needs more memory than a page may use; use brainchop-segment`);
  return combined(best);

  function voxels(axes) {
    return product(axes, (all) => all.reduce((sum, n) => sum + n, 0));
  }
}

function cubes(dims, block) {
  return combined(
    dims.map((length, axis) => {
      const found = [];
      for (let start = 0; start < length; start += block[axis]) {
        const first = Math.max(0, Math.min(start, length - block[axis]));
        found.push({ own: [start, Math.min(start + block[axis], length)], outer: [first, block[axis]] });
      }
      return found;
    }),
  );
}

function combined([xs, ys, zs]) {
  return zs.flatMap((z) =>
    ys.flatMap((y) =>
      xs.map((x) => ({
        own: { low: [x, y, z].map((one) => one.own[0]), high: [x, y, z].map((one) => one.own[1]) },
        first: [x, y, z].map((one) => one.outer[0]),
        shape: [x, y, z].map((one) => one.outer[1]),
      })),
    ),
  );
}

/** The normalised input, last axis fastest; 0 behind the end of the volume. */
function inputOf({ first, shape }, volume, dims, table) {
  const result = new Float32Array(shape[0] * shape[1] * shape[2]);
  for (let z = 0; z < shape[2] && z + first[2] < dims[2]; z++) {
    for (let y = 0; y < shape[1] && y + first[1] < dims[1]; y++) {
      const from = ((z + first[2]) * dims[1] + y + first[1]) * dims[0] + first[0];
      for (let x = 0; x < shape[0] && x + first[0] < dims[0]; x++) {
        result[(x * shape[1] + y) * shape[2] + z] = table[volume[from + x]];
      }
    }
  }
  return result;
}

/** The class of the largest value, the first one in a tie, or whether a single one is above a limit. */
function decide({ data, dims: found }, { own, first, shape }, labels, dims, classes, channelsFirst, limit, name) {
  const given = channelsFirst ? found[1] : found.at(-1);
  const spatial = channelsFirst ? found.slice(2) : found.slice(1, 4);
  const expected = classes === 2 && given === 1 ? 1 : classes;
  if (found.length !== 5 || given !== expected || spatial.some((n, i) => n !== shape[i])) {
    throw new UserError(`${name}: gave ${found.join(' x ')} for ${shape.join(' x ')} voxels and ${classes} labels`);
  }
  const count = shape[0] * shape[1] * shape[2];
  const [voxel, channel] = channelsFirst ? [1, count] : [given, 1];
  const sides = sidesOf(own);
  for (let z = 0; z < sides[2]; z++) {
    for (let y = 0; y < sides[1]; y++) {
      let to = ((z + own.low[2]) * dims[1] + y + own.low[1]) * dims[0] + own.low[0];
      for (let x = 0; x < sides[0]; x++) {
        const place = own.low.map((n, axis) => n - first[axis]);
        let at = (((x + place[0]) * shape[1] + y + place[1]) * shape[2] + z + place[2]) * voxel;
        let [best, label] = [limit, 0];
        if (given > 1) {
          best = data[at];
          at += channel;
        }
        for (let c = 1; c < classes; c++, at += channel) {
          if (data[at] > best) [best, label] = [data[at], c];
        }
        labels[to++] = label;
      }
    }
  }
}
