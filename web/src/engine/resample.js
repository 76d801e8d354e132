/** Label maps on another grid, as `brainchop_bids.image.resample` and `background` make them. */
import { affineOf, inverse, matches, product } from './geometry.js';
import { Sampler } from './sampling.js';

// Weights closer than this are a tie.
const EQUAL = 1e-9;
const NOTHING = 1e-12;
const SAMPLE = 1 << 18;

/**
 * Resample labels: the indicator function of each label is interpolated linearly, and the label
 * with the largest value is taken, the smallest label in a tie.
 * @template {Uint8Array | Uint16Array} T
 * @param {T} labels
 * @param {import('./geometry.js').Geometry} source
 * @param {import('./geometry.js').Geometry} target
 * @returns {T}
 */
export function labelsToGrid(labels, source, target) {
  if (matches(source, target)) return labels.slice();
  const matrix = product(inverse(affineOf(source)), affineOf(target)).map((row) =>
    row.map((n) => (Math.abs(n) < NOTHING ? 0 : n)),
  );
  const sampler = new Sampler(matrix, source.dims, target.dims);
  const flat = sampler.pad(labels);
  const alike = alikeOf(flat, sampler.strides);
  const result = new labels.constructor(target.dims[0] * target.dims[1] * target.dims[2]);
  const [slow, middle] = sampler.strides;
  const offsets = [0, 1, middle, middle + 1, slow, slow + 1, slow + middle, slow + middle + 1];
  const found = new Int32Array(8);
  const weights = new Float64Array(8);
  sampler.each((to, first, last, slows, middles, fasts, start) => {
    for (let n = first; n < last; n++) {
      const [fa, fb, fc] = [Math.floor(slows[n]), Math.floor(middles[n]), Math.floor(fasts[n])];
      const base = start + fa * slow + fb * middle + fc;
      if (alike[base]) {
        result[to + n] = flat[base];
        continue;
      }
      const [a, b, c] = [slows[n] - fa, middles[n] - fb, fasts[n] - fc];
      for (let i = 0; i < 8; i++) {
        found[i] = flat[base + offsets[i]];
        weights[i] = (i & 4 ? a : 1 - a) * (i & 2 ? b : 1 - b) * (i & 1 ? c : 1 - c);
      }
      let [label, best] = [0, -1];
      for (let i = 0; i < 8; i++) {
        let score = weights[i];
        for (let j = 0; j < 8; j++) if (j !== i && found[j] === found[i]) score += weights[j];
        if (score > best + EQUAL || (score > best - EQUAL && found[i] < label)) {
          label = found[i];
          best = score;
        }
      }
      result[to + n] = label;
    }
  });
  return result;
}

/** 1 for voxels with the same label as their seven upper neighbours. */
function alikeOf(flat, [slow, middle]) {
  const alike = new Uint8Array(flat.length);
  const end = flat.length - slow - middle - 1;
  for (let i = 0; i < end; i++) {
    const label = flat[i];
    if (
      flat[i + 1] === label && flat[i + middle] === label && flat[i + middle + 1] === label &&
      flat[i + slow] === label && flat[i + slow + 1] === label &&
      flat[i + slow + middle] === label && flat[i + slow + middle + 1] === label
    ) {
      alike[i] = 1;
    }
  }
  return alike;
}

/** One bit for each voxel, set where the scan has no signal. */
export function emptyVoxels(data) {
  const empty = voidValue(data);
  const bits = new Uint8Array(Math.ceil(data.length / 8));
  for (let i = 0; i < data.length; i++) if (data[i] === empty) bits[i >> 3] |= 1 << (i & 7);
  return bits;
}

/** Set labels to 0 in empty voxels. */
export function withoutEmpty(labels, bits) {
  for (let i = 0; i < labels.length; i++) if ((bits[i >> 3] >> (i & 7)) & 1) labels[i] = 0;
  return labels;
}

/** Value of voxels without a signal: 0, or with negative values the most frequent one. */
function voidValue(data) {
  if (data.every((value) => value >= 0)) return 0;
  const counts = new Map();
  const step = Math.max(1, Math.floor(data.length / SAMPLE));
  for (let i = 0; i < data.length; i += step) counts.set(data[i], (counts.get(data[i]) ?? 0) + 1);
  let [best, most] = [0, 0];
  for (const [value, count] of counts) {
    if (count > most || (count === most && value < best)) [best, most] = [value, count];
  }
  return best;
}
