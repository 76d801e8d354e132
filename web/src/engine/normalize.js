/** Normalisation of conformed scans, by the rules of `brainchop_bids.image.normalise`. */
import { UserError } from './errors.js';

const f32 = Math.fround;
const PLAIN = ['minmax', 'zscore', 'zscore-whole', 'max', 'brats', 'none'];
const ALIASES = { full_volume_mean: 'zscore-whole', max_min: 'minmax', mean: 'zscore' };

/**
 * Read a rule such as `quantile:0.02:0.98:clip`, or the same as an object.
 * @param {string | { kind: string, low?: number, high?: number, clip?: boolean }} rule
 * @param {string} model its name, for messages
 */
export function parseNormalization(rule, model) {
  if (typeof rule === 'object' && rule) {
    const low = rule.low ?? 0.02;
    const high = rule.high ?? 0.98;
    rule = ['quantile', 'window'].includes(rule.kind)
      ? `${rule.kind}:${low}:${high}${rule.clip ? ':clip' : ''}`
      : rule.kind;
  }
  const [given, ...rest] = String(rule).trim().split(':');
  const kind = ALIASES[given] ?? given;
  const clip = rest.at(-1) === 'clip';
  const numbers = (clip ? rest.slice(0, -1) : rest).map(Number);
  const ordered = numbers.length === 2 && numbers[0] < numbers[1] && numbers.every(Number.isFinite);
  if (kind === 'quantile' && !numbers.length) return { kind, low: 0.02, high: 0.98, clip };
  if (kind === 'quantile' && ordered && numbers[0] >= 0 && numbers[1] <= 1) {
    return { kind, low: numbers[0], high: numbers[1], clip };
  }
  if (kind === 'window' && ordered && !clip) return { kind, low: numbers[0], high: numbers[1], clip: true };
  if (PLAIN.includes(kind) && !rest.length) return { kind, low: 0, high: 1, clip: false };
  throw new UserError(`${model}: normalisation '${rule}' is not understood; correct brainchop.json`);
}

/** Count each value. @param {Uint8Array} data @returns {Float64Array} */
export function histogram(data) {
  const counts = new Float64Array(256);
  for (let i = 0; i < data.length; i++) counts[data[i]]++;
  return counts;
}

/**
 * Normalised value of each intensity of a scan.
 * @param {Uint8Array} data
 * @param {ReturnType<typeof parseNormalization>} rule
 * @returns {Float32Array} of 256 values
 */
export function normalized(data, rule) {
  const [shift, span] = rangeOf(histogram(data), rule);
  return Float32Array.from({ length: 256 }, (_, value) => {
    let result = f32(value - f32(shift));
    if (span > 0) result = f32(result / f32(span));
    if (rule.kind === 'brats' && value === 0) result = 0;
    return rule.clip ? Math.min(1, Math.max(0, result)) : result;
  });
}

/** What is subtracted, and what the result is divided by unless that is 0. */
function rangeOf(counts, { kind, low, high }) {
  if (kind === 'window') return [low, high - low];
  if (kind === 'quantile') {
    const [a, b] = [low, high].map((q) => quantile(counts, q));
    return [a, b - a];
  }
  if (kind === 'none') return [0, 0];
  const first = kind === 'zscore' ? 1 : 0;
  let [number, sum, least, most] = [0, 0, -1, 0];
  for (let value = first; value < counts.length; value++) {
    if (!counts[value]) continue;
    if (least < 0) least = value;
    most = value;
    number += counts[value];
    sum += counts[value] * value;
  }
  if (!number) return [0, 0];
  if (kind === 'minmax') return [least, most - least];
  if (kind === 'max') return [0, most];
  const mean = sum / number;
  let square = 0;
  for (let value = first; value < counts.length; value++) square += counts[value] * (value - mean) ** 2;
  const spread = Math.sqrt(square / number);
  if (kind === 'brats' && spread > 0) {
    const span = (spread * (most - least)) / 100;
    return [span * ((100 * (mean / spread + least)) / (most - least) - 10), span];
  }
  return [mean, spread];
}

/** NumPy's quantile (linear interpolation) from counts of values. */
function quantile(counts, q) {
  const total = counts.reduce((sum, n) => sum + n, 0);
  const position = q * (total - 1);
  const lower = Math.floor(position);
  const value = (index) => {
    let sum = 0;
    return counts.findIndex((n) => (sum += n) > index);
  };
  const [a, b] = [value(lower), value(Math.min(lower + 1, total - 1))];
  const rest = position - lower;
  return rest >= 0.5 ? b - (b - a) * (1 - rest) : a + (b - a) * rest;
}
