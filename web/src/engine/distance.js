/** Distances in volumes of 1 mm voxels. */

/**
 * Voxels within a distance of a mask (dilation by a ball).
 * @param {Uint8Array} mask 0 or 1
 * @param {number[]} dims
 * @param {number} radius in voxels
 * @returns {Uint8Array}
 */
export function within(mask, dims, radius) {
  const [X, Y, Z] = dims;
  const most = Math.floor(radius * radius * (1 + 1e-6));
  const reach = Math.floor(radius);
  const far = most + 1;
  // Squared distances along the first axis, then along two and three of them.
  const Kind = far < 256 ? Uint8Array : Uint16Array;
  let square = new Kind(mask.length);
  for (let row = 0; row < mask.length; row += X) {
    let gap = far;
    for (let x = 0; x < X; x++) {
      gap = mask[row + x] ? 0 : gap + 1;
      square[row + x] = gap > reach ? far : gap * gap;
    }
    gap = far;
    for (let x = X - 1; x >= 0; x--) {
      gap = mask[row + x] ? 0 : gap + 1;
      if (gap <= reach && gap * gap < square[row + x]) square[row + x] = gap * gap;
    }
  }
  square = nearer(square, X, Y, Z, X, X * Y, reach, far);
  square = nearer(square, X * Y, Z, 1, X * Y, 0, reach, far);
  const result = new Uint8Array(mask.length);
  for (let i = 0; i < result.length; i++) result[i] = square[i] <= most ? 1 : 0;
  return result;
}

/** Add squares of distances along an axis of `count` lines of `width` voxels. */
function nearer(square, width, count, times, step, stride, reach, far) {
  const result = square.slice();
  for (let time = 0; time < times; time++) {
    const first = time * stride;
    for (let line = 0; line < count; line++) {
      const target = result.subarray(first + line * step, first + line * step + width);
      for (let i = Math.max(0, line - reach); i <= Math.min(count - 1, line + reach); i++) {
        if (i === line) continue;
        const more = (i - line) ** 2;
        if (more >= far) continue;
        const source = square.subarray(first + i * step, first + i * step + width);
        for (let x = 0; x < width; x++) {
          const value = source[x] + more;
          if (value < target[x]) target[x] = value;
        }
      }
    }
  }
  return result;
}

/**
 * The nearest voxel of a mask for each voxel, by the exact transform of Felzenszwalb and
 * Huttenlocher (2012): lower envelopes of parabolas along one axis after the other.
 * @param {Uint8Array} mask 0 or 1, with at least one voxel of 1
 * @param {number[]} dims
 * @returns {Int32Array} indices of voxels
 */
export function nearest(mask, [X, Y, Z]) {
  const feature = new Int32Array(mask.length).fill(-1);
  const square = new Float32Array(mask.length).fill(Infinity);
  for (let row = 0; row < mask.length; row += X) {
    for (const [start, end, step] of [[0, X, 1], [X - 1, -1, -1]]) {
      let seen = -1;
      for (let x = start; x !== end; x += step) {
        if (mask[row + x]) seen = x;
        if (seen < 0) continue;
        const distance = (x - seen) ** 2;
        if (distance < square[row + x]) {
          square[row + x] = distance;
          feature[row + x] = row + seen;
        }
      }
    }
  }
  for (let z = 0; z < Z; z++) {
    for (let x = 0; x < X; x++) envelope(square, feature, z * X * Y + x, X, Y);
  }
  for (let i = 0; i < X * Y; i++) envelope(square, feature, i, X * Y, Z);
  return feature;
}

const scratch = { places: new Int32Array(0) };

function envelope(square, feature, first, step, count) {
  if (scratch.places.length < count) {
    scratch.places = new Int32Array(count);
    scratch.limits = new Float64Array(count + 1);
    scratch.squares = new Float64Array(count);
    scratch.features = new Int32Array(count);
  }
  const { places, limits, squares, features } = scratch;
  let last = -1;
  for (let i = 0, at = first; i < count; i++, at += step) {
    squares[i] = square[at];
    features[i] = feature[at];
    if (features[i] < 0) continue;
    let limit = -Infinity;
    while (last >= 0) {
      const other = places[last];
      limit = (squares[i] + i * i - squares[other] - other * other) / (2 * (i - other));
      if (limit > limits[last]) break;
      last--;
    }
    if (last < 0) limit = -Infinity;
    places[++last] = i;
    limits[last] = limit;
  }
  if (last < 0) return;
  for (let i = 0, at = first, parabola = 0; i < count; i++, at += step) {
    while (parabola < last && limits[parabola + 1] < i) parabola++;
    const place = places[parabola];
    square[at] = squares[place] + (i - place) ** 2;
    feature[at] = features[place];
  }
}
