/**
 * Grids of voxels in RAS+ millimetres, by the rules of FreeSurfer.
 *
 * float32 at the steps where FreeSurfer has it, because the last bit decides ties when a scan is
 * conformed.
 */

const f32 = Math.fround;

/**
 * @typedef {object} Geometry
 * @property {number[]} dims number of voxels along each axis
 * @property {number[]} zooms voxel sizes in mm, float32
 * @property {number[][]} cosines direction of each axis in a column, float32
 * @property {number[]} centre position of the voxel coordinate dims / 2 in mm, float32
 */

/** @returns {Geometry} */
export function geometry(dims, zooms, cosines, centre) {
  return {
    dims: [...dims],
    zooms: zooms.map(f32),
    cosines: cosines.map((row) => row.map(f32)),
    centre: centre.map(f32),
  };
}

/** Determinant of a 3 x 3 matrix. */
export function determinant([[a, b, c], [d, e, f], [g, h, i]]) {
  return a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g);
}

/**
 * Grid of an affine; throws a RangeError that says what is wrong with it.
 * @param {number[][]} affine rows of 4 numbers
 * @param {number[]} dims
 * @param {number[]} [sizes] voxel sizes, by default the lengths of the columns
 */
export function fromAffine(affine, dims, sizes) {
  const columns = [0, 1, 2].map((axis) => [0, 1, 2].map((row) => affine[row][axis]));
  const lengths = columns.map((column) => Math.sqrt(column.reduce((sum, n) => sum + n * n, 0)));
  const zooms = (sizes ?? lengths).map(f32);
  if (!affine.slice(0, 3).flat().every(Number.isFinite)) throw new RangeError('is not finite');
  if (!lengths.every((n) => n > 0)) throw new RangeError('is singular (a column of zeros)');
  if (!zooms.every((n) => Number.isFinite(n) && n > 0)) {
    throw new RangeError(`has voxel sizes ${zooms.join(', ')}`);
  }
  const cosines = [0, 1, 2].map((row) => columns.map((column, axis) => f32(column[row] / lengths[axis])));
  if (Math.abs(determinant(cosines)) < 1e-4) {
    throw new RangeError('is singular (its axes lie in one plane)');
  }
  const half = dims.map((n) => f32(n / 2));
  const centre = cosines.map((row, axis) => {
    const [x, y, z] = row.map((cosine, i) => f32(f32(cosine * zooms[i]) * half[i]));
    return f32(f32(f32(x + y) + z) + f32(affine[axis][3]));
  });
  if (!centre.every(Number.isFinite)) throw new RangeError('puts its centre beyond float32');
  return { dims: [...dims], zooms, cosines, centre };
}

/** Voxel index to mm, rows of 4 numbers, in double precision. @param {Geometry} grid */
export function affineOf({ dims, zooms, cosines, centre }) {
  const rows = cosines.map((row) => row.map((cosine, axis) => cosine * zooms[axis]));
  const full = rows.map((row, axis) => {
    const offset = row.reduce((sum, n, i) => sum + (n * dims[i]) / 2, 0);
    return [...row, centre[axis] - offset];
  });
  return [...full, [0, 0, 0, 1]];
}

/** Inverse of an affine, in double precision. @param {number[][]} affine */
export function inverse(affine) {
  const m = affine.slice(0, 3).map((row) => row.slice(0, 3));
  const scale = 1 / determinant(m);
  const turned = [0, 1, 2].map((i) =>
    [0, 1, 2].map((j) => {
      const [a, b] = [(j + 1) % 3, (j + 2) % 3];
      const [c, d] = [(i + 1) % 3, (i + 2) % 3];
      return scale * (m[a][c] * m[b][d] - m[a][d] * m[b][c]);
    }),
  );
  const rows = turned.map((row) => [...row, -row.reduce((sum, n, i) => sum + n * affine[i][3], 0)]);
  return [...rows, [0, 0, 0, 1]];
}

/** Product of two matrices. */
export function product(a, b) {
  return a.map((row) => b[0].map((_, j) => row.reduce((sum, n, i) => sum + n * b[i][j], 0)));
}

/** Whether two grids have the same shape, sizes, directions and centre. */
export function matches(one, other, tolerance = 1e-5) {
  const near = (a, b) => a.flat().every((n, i) => Math.abs(n - b.flat()[i]) <= tolerance);
  return (
    one.dims.every((n, i) => n === other.dims[i]) &&
    ['zooms', 'cosines', 'centre'].every((key) => near(one[key], other[key]))
  );
}

/** Volume of a voxel in mm^3. @param {Geometry} grid */
export function voxelVolume(grid) {
  return Math.abs(determinant(affineOf(grid).slice(0, 3).map((row) => row.slice(0, 3))));
}

/** Grid of a part of the voxels. */
export function part(grid, first, dims) {
  const affine = affineOf(grid);
  const middle = first.map((n, axis) => n + dims[axis] / 2);
  const centre = affine.slice(0, 3).map((row) => row[3] + middle.reduce((sum, n, i) => sum + row[i] * n, 0));
  return geometry(dims, grid.zooms, grid.cosines, centre);
}

/** Nearest direction (R, L, A, P, S or I) of each axis. @param {Geometry} grid */
export function orientation({ cosines }) {
  const best = [null, null, null];
  const pairs = [0, 1, 2].flatMap((row) => [0, 1, 2].map((axis) => [row, axis]));
  pairs.sort(([a, b], [c, d]) => Math.abs(cosines[c][d]) - Math.abs(cosines[a][b]));
  const used = new Set();
  for (const [row, axis] of pairs) {
    if (best[axis] || used.has(row)) continue;
    used.add(row);
    best[axis] = cosines[row][axis] < 0 ? 'LPI'[row] : 'RAS'[row];
  }
  return best;
}
