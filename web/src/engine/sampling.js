/** Positions of the voxels of one grid in another one. */

const ORDERS = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
// With one plane of zeros before the first voxel and two after the last, neighbours outside the
// field of view are ordinary voxels.
const [BEFORE, BEHIND] = [1, 2];

/** Source axes nearest to the target's last, middle and first axis. */
function alignedAxes(matrix) {
  let [best, score] = [ORDERS[5], -1];
  for (const order of ORDERS) {
    const total = order.reduce((sum, axis, i) => sum + Math.abs(matrix[axis][2 - i]), 0);
    if (total > score) [best, score] = [order, total];
  }
  return best;
}

export class Sampler {
  /**
   * @param {number[][]} matrix target voxel index to source voxel index
   * @param {number[]} source dims
   * @param {number[]} target dims
   * @param {(value: number) => number} round `Math.fround` for coordinates in float32
   */
  constructor(matrix, source, target, round = (value) => value) {
    this.target = target;
    this.source = source;
    this.order = alignedAxes(matrix);
    this.size = this.order.map((axis) => source[axis]);
    this.rows = this.order.map((axis) => matrix[axis]);
    const used = matrix.slice(0, 3).map((row) => row.slice(0, 3).map((n) => Number(n !== 0)));
    this.separable = [0, 1, 2].every(
      (i) => used[i].reduce((a, b) => a + b) === 1 && used.reduce((sum, row) => sum + row[i], 0) === 1,
    );
    const padded = this.size.map((n) => n + BEFORE + BEHIND);
    this.strides = [padded[1] * padded[2], padded[2], 1];
    this.padded = padded;
    this.round = round;
  }

  /** Strides of the source's axes in its file order, in this sampler's order. */
  get given() {
    const strides = [1, this.source[0], this.source[0] * this.source[1]];
    return this.order.map((axis) => strides[axis]);
  }

  /** The source in this sampler's order, with a border of zeros. */
  pad(data) {
    const result = new data.constructor(this.padded[0] * this.strides[0]);
    const [slow, middle, fast] = this.given;
    for (let a = 0; a < this.size[0]; a++) {
      for (let b = 0; b < this.size[1]; b++) {
        let to = (a + BEFORE) * this.strides[0] + (b + BEFORE) * this.strides[1] + BEFORE;
        let from = a * slow + b * middle;
        for (let c = 0; c < this.size[2]; c++, from += fast) result[to++] = data[from];
      }
    }
    return result;
  }

  /**
   * Visit the target voxels that have neighbours in the source.
   *
   * `visit` gets the index of the target voxel, that of the lower corner in the padded source, and
   * the position between the corners along the sampler's three axes.
   * @param {(to: number, base: number, slow: number, middle: number, fast: number) => void} visit
   */
  each(visit) {
    const { round } = this;
    const [X, Y, Z] = this.target;
    const [[a0, a1, a2, a3], [b0, b1, b2, b3], [c0, c1, c2, c3]] = this.rows;
    const [na, nb, nc] = this.size;
    const [sa, sb] = this.strides;
    const first = BEFORE * (sa + sb + 1);
    for (let k = 0; k < Z; k++) {
      const [ak, bk, ck] = [round(a2 * k), round(b2 * k), round(c2 * k)];
      for (let j = 0; j < Y; j++) {
        const [aj, bj, cj] = [round(a1 * j), round(b1 * j), round(c1 * j)];
        const [low, high] = this.range(j, k);
        for (let i = low, to = (k * Y + j) * X + low; i < high; i++, to++) {
          const a = round(round(round(round(a0 * i) + aj) + ak) + a3);
          if (a <= -1 || a >= na) continue;
          const b = round(round(round(round(b0 * i) + bj) + bk) + b3);
          if (b <= -1 || b >= nb) continue;
          const c = round(round(round(round(c0 * i) + cj) + ck) + c3);
          if (c <= -1 || c >= nc) continue;
          const [fa, fb, fc] = [Math.floor(a), Math.floor(b), Math.floor(c)];
          visit(to, first + fa * sa + fb * sb + fc, a - fa, b - fb, c - fc);
        }
      }
    }
  }

  /** First and last + 1 voxel of a target row that can have neighbours in the source. */
  range(j, k) {
    let [low, high] = [0, this.target[0] - 1];
    for (let axis = 0; axis < 3; axis++) {
      const [step, ...rest] = this.rows[axis];
      const begin = rest[0] * j + rest[1] * k + rest[2];
      const n = this.size[axis];
      if (Math.abs(step) < 1e-6) {
        if (begin < -1.01 || begin > n + 0.01) return [0, 0];
        continue;
      }
      const one = (-1 - begin) / step;
      const other = (n - begin) / step;
      low = Math.max(low, Math.ceil(Math.min(one, other) - 0.01));
      high = Math.min(high, Math.floor(Math.max(one, other) + 0.01));
    }
    return [low, high + 1];
  }
}
