/** Connected components of volumes, by runs of equal voxels along the first axis. */

export class Components {
  /**
   * Find the components of equal values that are not 0.
   * @param {Uint8Array | Uint16Array} data
   * @param {number[]} dims
   * @param {6 | 26} neighbours
   */
  constructor(data, dims, neighbours = 26) {
    const [X, Y, Z] = dims;
    const diagonal = neighbours === 26;
    // The first run of each row, and one behind the last.
    const rows = new Int32Array(Y * Z + 1);
    let room = 1 << 16;
    let [starts, ends, root] = [0, 0, 0].map(() => new Int32Array(room));
    let count = 0;
    const find = (run) => {
      while (root[run] !== run) run = root[run] = root[root[run]];
      return run;
    };
    const join = (run, row) => {
      if (row < 0) return;
      const reach = diagonal ? 0 : -1;
      const value = data[starts[run]];
      const offset = (rowOf - row) * X;
      for (let other = rows[row]; other < rows[row + 1]; other++) {
        // In voxels of this row; ends are behind the last voxel.
        if (starts[other] + offset > ends[run] + reach) break;
        if (ends[other] + offset + reach < starts[run] || data[starts[other]] !== value) continue;
        const [a, b] = [find(run), find(other)];
        if (a < b) root[b] = a;
        else root[a] = b;
      }
    };
    let rowOf = 0;
    for (let z = 0; z < Z; z++) {
      for (let y = 0; y < Y; y++, rowOf++) {
        rows[rowOf] = count;
        const first = rowOf * X;
        const last = first + X;
        for (let at = first; at < last; ) {
          const value = data[at];
          const start = at;
          while (at < last && data[at] === value) at++;
          if (!value) continue;
          if (count === room) {
            room *= 2;
            [starts, ends, root] = [starts, ends, root].map((list) => {
              const longer = new Int32Array(room);
              longer.set(list);
              return longer;
            });
          }
          starts[count] = start;
          ends[count] = at;
          root[count] = count;
          const run = count++;
          if (y) join(run, rowOf - 1);
          if (z) join(run, rowOf - Y);
          if (diagonal && z && y) join(run, rowOf - Y - 1);
          if (diagonal && z && y < Y - 1) join(run, rowOf - Y + 1);
        }
        rows[rowOf + 1] = count;
      }
    }
    this.dims = dims;
    this.count = count;
    this.starts = starts;
    this.ends = ends;
    this.values = data;
    /** Component of each run, which is the number of its first run. */
    this.roots = Int32Array.from({ length: count }, (_, run) => find(run));
    /** Number of voxels of each component, by its first run. */
    this.sizes = new Float64Array(count);
    for (let run = 0; run < count; run++) this.sizes[this.roots[run]] += ends[run] - starts[run];
  }

  /** First runs of all components. */
  get all() {
    return [...this.roots.keys()].filter((run) => this.roots[run] === run);
  }

  /** The largest component, the first one in a tie; -1 if there is none. */
  get largest() {
    let best = -1;
    for (let run = 0; run < this.count; run++) {
      if (this.roots[run] === run && (best < 0 || this.sizes[run] > this.sizes[best])) best = run;
    }
    return best;
  }

  /**
   * Mask of some components.
   * @param {(component: number) => boolean | number} chosen
   * @returns {Uint8Array}
   */
  mask(chosen) {
    const [X, Y, Z] = this.dims;
    const result = new Uint8Array(X * Y * Z);
    for (let run = 0; run < this.count; run++) {
      if (chosen(this.roots[run])) result.fill(1, this.starts[run], this.ends[run]);
    }
    return result;
  }

  /** Component of a voxel, -1 for background. @param {number} voxel */
  at(voxel) {
    let [low, high] = [0, this.count];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.ends[middle] <= voxel) low = middle + 1;
      else high = middle;
    }
    return low < this.count && this.starts[low] <= voxel ? this.roots[low] : -1;
  }
}
