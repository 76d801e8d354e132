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
   * @param {boolean} single whether coordinates are computed in float32, at every step
   */
  constructor(matrix, source, target, single = false) {
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
    this.single = single;
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
   * Visit the parts of target rows that have neighbours in the source.
   *
   * `visit` gets the index of the row's first target voxel, the first and last + 1 voxel of the
   * part, and the source coordinates of each voxel of the row along the sampler's three axes. In
   * the padded source, `start` is the voxel of the coordinates 0, 0, 0.
   * @param {(to: number, low: number, high: number, slow: Float64Array, middle: Float64Array,
   *   fast: Float64Array, start: number) => void} visit
   */
  each(visit) {
    const [X, Y, Z] = this.target;
    const where = [0, 1, 2].map(() => new Float64Array(X));
    const start = BEFORE * (this.strides[0] + this.strides[1] + 1);
    for (let k = 0; k < Z; k++) {
      for (let j = 0; j < Y; j++) {
        let [low, high] = this.range(j, k);
        for (let axis = 0; axis < 3 && low < high; axis++) {
          const line = where[axis];
          (this.single ? place32 : place64)(line, low, high, j, k, this.rows[axis]);
          // Positions along a row rise or fall.
          while (low < high && !(line[low] > -1 && line[low] < this.size[axis])) low++;
          while (low < high && !(line[high - 1] > -1 && line[high - 1] < this.size[axis])) high--;
        }
        if (low < high) visit((k * Y + j) * X, low, high, where[0], where[1], where[2], start);
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

/** Coordinates of the voxels of a row, from the first term to the last. */
function place64(line, low, high, j, k, [m0, m1, m2, m3]) {
  for (let i = low; i < high; i++) line[i] = m0 * i + m1 * j + m2 * k + m3;
}

/** The same, rounded to float32 at every step. */
function place32(line, low, high, j, k, [m0, m1, m2, m3]) {
  const [second, third] = [Math.fround(m1 * j), Math.fround(m2 * k)];
  for (let i = low; i < high; i++) {
    const first = Math.fround(Math.fround(m0 * i) + second);
    line[i] = Math.fround(Math.fround(first + third) + m3);
  }
}
