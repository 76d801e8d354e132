/**
 * Scaling of intensities to 0..255 as FreeSurfer's `mri_convert -c` does it.
 *
 * Computations are in float32 wherever they are in FreeSurfer, because rounding decides ties.
 */
import { UserError } from './errors.js';

const f32 = Math.fround;
const BINS = 1000;
const HIGH = f32(0.999);
const ZERO = f32(1e-15);
// The largest float32 below one half: adding it and truncating rounds halves up.
const HALF = f32(0.5 - 2 ** -25);
// Outliers are at most this share of the voxels at each end, and lie apart from all others by a
// gap as wide as half their range below them, and twice that range above them.
const TAIL = 0.01;
const [GAP_BELOW, GAP_ABOVE] = [0.5, 2];
const LEAST_BINS = 20;
const SAMPLE = 1 << 18;
const PIECE = 1 << 16;
const CODES = 1 << 16;
const FAR = 1 << 14;

/** Round a float32 in 0..255 to the nearest integer, halves up. */
export const halfUp = (value) => Math.trunc(f32(value + HALF));

const many = (number, one, several) => (number > 1 ? several : one);
const short = (value) => String(Number(Number(value).toPrecision(6)));

/**
 * Scale intensities.
 * @param {Int16Array | Uint16Array | Int32Array | Float32Array} values
 * @param {string} name of the scan, for messages
 * @returns {{ scaled: Uint8Array, notes: string[] }}
 */
export function toUint8(values, name) {
  const scaled = new Uint8Array(values.length);
  if (values instanceof Int16Array || values instanceof Uint16Array) {
    // The result depends on the value alone, so it is computed once for each value.
    const codes = new Uint16Array(values.buffer, values.byteOffset, values.length);
    const counts = new Float64Array(CODES);
    for (let i = 0; i < codes.length; i++) counts[codes[i]]++;
    const kind = values.constructor;
    const table = Float32Array.from(new kind(Uint16Array.from({ length: CODES }, (_, i) => i).buffer));
    const notes = unwrap(table, counts);
    const present = [...counts.keys()].filter((i) => counts[i] > 0);
    const seen = {
      values: Float32Array.from(present, (i) => table[i]),
      counts: Float64Array.from(present, (i) => counts[i]),
    };
    const found = findWindow(seen, name);
    const rounded = new Uint8Array(CODES);
    for (const i of present) rounded[i] = scale(table[i], found);
    for (let i = 0; i < codes.length; i++) scaled[i] = rounded[codes[i]];
    return { scaled, notes: [...notes, ...found.notes] };
  }
  const reals = values instanceof Float32Array ? values : Float32Array.from(values);
  const found = findWindow({ values: reals, counts: null }, name);
  for (let i = 0; i < reals.length; i++) scaled[i] = scale(reals[i], found);
  return { scaled, notes: found.notes };
}

function scale(value, { low, factor }) {
  if (value === 0) return 0;
  const out = f32(factor * f32(value - low));
  return halfUp(Math.min(255, Math.max(0, out)));
}

/** Take a few negative values for numbers above 32767 that were stored in 16 bits. */
function unwrap(table, counts) {
  let [total, number, low, high] = [0, 0, Infinity, -Infinity];
  for (let i = 0; i < CODES; i++) {
    if (!counts[i]) continue;
    total += counts[i];
    if (table[i] < 0) number += counts[i];
    low = Math.min(low, table[i]);
    high = Math.max(high, table[i]);
  }
  if (!(number > 0 && number <= TAIL * total) || low > -FAR || high < FAR) return [];
  for (let i = 0; i < CODES; i++) if (table[i] < 0) table[i] += CODES;
  return [
    `${number} voxel${many(number, '', 's')} with values down to ${low} in a scan of values up to ` +
      `${high} seem${many(number, 's', '')} to be numbers above 32767 that wrapped around in 16 ` +
      'bits; they were read as such',
  ];
}

/** Lowest value, and the factor that scales the window above it to 0..255. */
function findWindow(seen, name) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of seen.values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  const tails = tailsOf(seen);
  const [least, below] = withoutOutliers(seen, tails, low, -1);
  low = least;
  const notes = [...below];
  const [cut, above] = withoutOutliers(seen, tails, high, 1);
  if (above.length && (BINS * (cut - low)) / (high - low) < LEAST_BINS) {
    high = cut;
    notes.push(...above);
  }
  return { ...window(seen, low, high, name), notes };
}

/** Quantiles, about, beyond which outliers are looked for. */
function tailsOf({ values, counts }) {
  if (!counts) {
    const step = Math.max(1, Math.floor(values.length / SAMPLE));
    const picked = [];
    for (let start = 0; start < values.length; start += PIECE) {
      const end = Math.min(start + PIECE, values.length);
      for (let i = start; i < end; i += step) picked.push(values[i]);
    }
    const sample = Float32Array.from(picked).sort();
    const last = sample.length - 1;
    return [sample[Math.trunc(TAIL * last)], sample[Math.trunc((1 - TAIL) * last)]];
  }
  const order = [...values.keys()].sort((a, b) => values[a] - values[b]);
  const total = counts.reduce((sum, n) => sum + n, 0);
  return [TAIL, 1 - TAIL].map((share) => {
    let sum = 0;
    return values[order.find((i) => (sum += counts[i]) > share * (total - 1))];
  });
}

/** Sorted values beyond a limit, and the number of their voxels. */
function beyond({ values, counts }, limit, sign) {
  const found = [];
  let number = 0;
  for (let i = 0; i < values.length; i++) {
    if (sign < 0 ? values[i] < limit : values[i] > limit) {
      found.push(values[i]);
      number += counts ? counts[i] : 1;
    }
  }
  return [Float64Array.from(found).sort(), number];
}

/** Lowest or highest value that is no outlier, and a line if there are outliers. */
function withoutOutliers(seen, [first, last], extreme, sign) {
  const gap = (sign < 0 ? GAP_BELOW : GAP_ABOVE) * (last - first);
  const limit = sign < 0 ? first : last;
  if (gap <= 0 || (extreme - limit) * sign <= gap) return [extreme, []];
  const [tail] = beyond(seen, limit, sign);
  const ordered = sign < 0 ? [...tail, limit] : [limit, ...tail];
  const wide = [...ordered.keys()].slice(1).filter((i) => ordered[i] - ordered[i - 1] > gap);
  if (!wide.length) return [extreme, []];
  const kept = sign < 0 ? ordered[wide.at(-1)] : ordered[wide[0] - 1];
  const [outliers, number] = beyond(seen, kept, sign);
  const limits = [...new Set([outliers[0], outliers.at(-1)])].map(short).join(' to ');
  const [side, end] = sign < 0 ? ['below', 'lowest'] : ['above', 'highest'];
  return [
    f32(kept),
    [
      `${number} voxel${many(number, '', 's')} at ${limits} lie${many(number, 's', '')} far ${side} ` +
        `all others, whose ${end} is ${short(kept)}; clipped, because the range of FreeSurfer's ` +
        'conform would be stretched',
    ],
  ];
}

function window({ values, counts }, low, high, name) {
  const width = f32(f32(high - low) / BINS);
  if (!Number.isFinite(width)) {
    throw new UserError(
      `${name}: intensities run from ${short(low)} to ${short(high)}, more than float32 can span; ` +
        'rescale the image',
    );
  }
  if (width === 0) return { low, factor: 1 };
  const bins = new Float64Array(BINS);
  let nonzero = 0;
  for (let i = 0; i < values.length; i++) {
    const number = Math.trunc(Math.min(BINS - 1, Math.max(0, f32(f32(values[i] - low) / width))));
    const weight = counts ? counts[i] : 1;
    bins[number] += weight;
    if (Math.abs(values[i]) >= ZERO) nonzero += weight;
  }
  // One bin below that which the brightest thousandth of the foreground reaches.
  const wanted = Math.trunc((1 - HIGH) * nonzero);
  let [found, number] = [0, BINS - 1];
  while (found < wanted && number > 0) found += bins[number--];
  const top = f32(f32(number * width) + low);
  return { low, factor: top === low ? 1 : f32(255 / f32(top - low)) };
}
