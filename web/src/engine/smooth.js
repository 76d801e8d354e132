/** Smoothing of label maps, as `brainchop_bids.image.smooth` does it. */
import { boundingBox, cropped, grown, pasted, sidesOf } from './boxes.js';

const f32 = Math.fround;
// Radius of the Gaussian kernel, in standard deviations.
const TRUNCATE = 3;

/**
 * Give each voxel the label with the largest Gaussian-weighted share of its neighbourhood.
 * @template {Uint8Array | Uint16Array} T
 * @param {T} labels
 * @param {number[]} dims
 * @param {{ voxels?: number, below?: number }} rule
 * @returns {T} the same array if there is nothing to do
 */
export function smoothLabels(labels, dims, { voxels = 0, below = 1 }) {
  const found = voxels ? boundingBox(labels, dims) : null;
  if (!found) return labels;
  const reach = Math.trunc(TRUNCATE * voxels + 0.5);
  const box = grown(found, 2 * reach, dims);
  const inside = cropped(labels, dims, box);
  const weights = kernel(voxels, reach);
  return pasted(labels.slice(), dims, box, smoothed(inside, sidesOf(box), weights, below));
}

/** Half of the kernel: the weight of the voxel itself first. */
function kernel(sigma, reach) {
  const all = Array.from({ length: 2 * reach + 1 }, (_, i) => Math.exp((-0.5 / (sigma * sigma)) * (i - reach) ** 2));
  const sum = all.reduce((total, n) => total + n, 0);
  return all.slice(reach).map((n) => n / sum);
}

function smoothed(labels, dims, weights, below) {
  const reach = weights.length - 1;
  const best = new Float32Array(labels.length);
  const own = below < 1 ? new Float32Array(labels.length) : null;
  const winner = labels.slice();
  const patterns = patternsOf(weights);
  for (const [label, found] of boxesOf(labels, dims)) {
    const box = grown(found, reach, dims);
    const sides = sidesOf(box);
    const share = new Float32Array(sides[0] * sides[1] * sides[2]);
    alongX(labels, dims, label, box, share, weights, patterns);
    alongY(share, sides, weights);
    alongZ(share, sides, weights, (z, y, row) => {
      let at = ((z + box.low[2]) * dims[1] + y + box.low[1]) * dims[0] + box.low[0];
      for (let x = 0; x < sides[0]; x++, at++) {
        if (own && labels[at] === label) own[at] = row[x];
        if (row[x] > best[at]) {
          best[at] = row[x];
          winner[at] = label;
        }
      }
    });
  }
  if (own) for (let i = 0; i < labels.length; i++) if (!(own[i] < f32(below))) winner[i] = labels[i];
  return winner;
}

/** Labels that occur, in ascending order, and the box of each. */
function boxesOf(labels, [X, Y, Z]) {
  const boxes = new Map();
  for (let z = 0, at = 0; z < Z; z++) {
    for (let y = 0; y < Y; y++) {
      let previous = -1;
      let box = null;
      for (let x = 0; x < X; x++, at++) {
        const label = labels[at];
        if (label !== previous) {
          box = boxes.get(label);
          if (!box) boxes.set(label, (box = { low: [x, y, z], high: [0, 0, 0] }));
          previous = label;
          if (x < box.low[0]) box.low[0] = x;
          if (y < box.low[1]) box.low[1] = y;
          if (y >= box.high[1]) box.high[1] = y + 1;
          box.high[2] = z + 1;
        }
        if (x >= box.high[0]) box.high[0] = x + 1;
      }
    }
  }
  return [...boxes].sort(([a], [b]) => a - b);
}

/** Sum of weights for each pattern of voxels that have a label or not; null if there are too many. */
function patternsOf(weights) {
  const reach = weights.length - 1;
  const width = 2 * reach + 1;
  if (width > 15) return null;
  return Float32Array.from({ length: 1 << width }, (_, pattern) => {
    const bit = (i) => (pattern >> (reach + i)) & 1;
    let sum = bit(0) * weights[0];
    for (let i = reach; i > 0; i--) sum += (bit(-i) + bit(i)) * weights[i];
    return sum;
  });
}

function alongX(labels, dims, label, { low, high }, share, weights, patterns) {
  const reach = weights.length - 1;
  const mask = (1 << (2 * reach + 1)) - 1;
  let to = 0;
  for (let z = low[2]; z < high[2]; z++) {
    for (let y = low[1]; y < high[1]; y++) {
      const row = (z * dims[1] + y) * dims[0];
      // Beyond the box the label does not occur.
      const end = Math.min(dims[0], high[0] + reach);
      if (patterns) {
        let pattern = 0;
        for (let x = low[0] - reach; x < high[0] + reach; x++) {
          const bit = x >= 0 && x < end && labels[row + x] === label ? 1 : 0;
          pattern = ((pattern << 1) | bit) & mask;
          if (x - reach >= low[0]) share[to++] = patterns[pattern];
        }
        continue;
      }
      for (let x = low[0]; x < high[0]; x++) {
        const is = (i) => (x + i >= 0 && x + i < dims[0] && labels[row + x + i] === label ? 1 : 0);
        let sum = is(0) * weights[0];
        for (let i = reach; i > 0; i--) sum += (is(-i) + is(i)) * weights[i];
        share[to++] = sum;
      }
    }
  }
}

/** Add rows at equal distances, in double precision and in SciPy's order. */
function combine(target, rows, weights, width) {
  const reach = weights.length - 1;
  if (reach === 3) {
    const [w0, w1, w2, w3] = weights;
    const [a3, a2, a1, a0, b1, b2, b3] = rows;
    for (let x = 0; x < width; x++) {
      let sum = a0[x] * w0;
      sum += (a3[x] + b3[x]) * w3;
      sum += (a2[x] + b2[x]) * w2;
      sum += (a1[x] + b1[x]) * w1;
      target[x] = sum;
    }
    return;
  }
  for (let x = 0; x < width; x++) {
    let sum = rows[reach][x] * weights[0];
    for (let i = reach; i > 0; i--) sum += (rows[reach - i][x] + rows[reach + i][x]) * weights[i];
    target[x] = sum;
  }
}

function alongY(share, [X, Y, Z], weights) {
  const reach = weights.length - 1;
  const zeros = new Float32Array(X);
  const result = new Float32Array(X * Y);
  for (let z = 0; z < Z; z++) {
    const plane = share.subarray(z * X * Y, (z + 1) * X * Y);
    const row = (y) => (y < 0 || y >= Y ? zeros : plane.subarray(y * X, (y + 1) * X));
    const rows = Array.from({ length: 2 * reach + 1 }, (_, i) => row(i - reach));
    for (let y = 0; y < Y; y++) {
      combine(result.subarray(y * X, (y + 1) * X), rows, weights, X);
      rows.shift();
      rows.push(row(y + 1 + reach));
    }
    plane.set(result);
  }
}

function alongZ(share, [X, Y, Z], weights, visit) {
  const reach = weights.length - 1;
  const zeros = new Float32Array(X);
  const result = new Float32Array(X);
  for (let z = 0; z < Z; z++) {
    for (let y = 0; y < Y; y++) {
      const rows = Array.from({ length: 2 * reach + 1 }, (_, i) => {
        const plane = z + i - reach;
        if (plane < 0 || plane >= Z) return zeros;
        return share.subarray((plane * Y + y) * X, (plane * Y + y + 1) * X);
      });
      combine(result, rows, weights, X);
      visit(z, y, result);
    }
  }
}
