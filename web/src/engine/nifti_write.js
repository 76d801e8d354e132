/** Writing of NIfTI-1 files. */
import { affineOf } from './geometry.js';

/**
 * Write a NIfTI-1 image.
 * @param {object} image
 * @param {Uint8Array | Uint16Array | Int16Array | Int32Array | Float32Array} image.data
 * @param {Pick<import('./nifti.js').Scan, 'geometry'> & Partial<import('./nifti.js').Scan>} image.scan the scan, or anything with the grid;
 *   position and units of a NIfTI-1 scan are copied exactly
 * @param {{ index: number, name: string, color: string }[]} [image.labels] names and colours,
 *   which makes it a label image; an empty list for one without names
 * @returns {Uint8Array}
 */
export function writeNifti({ data, scan, labels }) {
  const codes = { Uint8Array: 2, Int16Array: 4, Int32Array: 8, Float32Array: 16, Uint16Array: 512 };
  const extension = labels?.length ? labelTable(labels) : new Uint8Array(0);
  const offset = 352 + extension.length;
  const bytes = new Uint8Array(offset + data.byteLength);
  const copied = scan.raw ?? null;
  if (copied) bytes.set(copied);
  const little = copied ? scan.little : true;
  const view = new DataView(bytes.buffer);
  if (!copied) placeHeader(view, scan.geometry);
  view.setInt32(0, 348, little);
  [3, ...scan.geometry.dims, 1, 1, 1, 1].forEach((n, i) => view.setInt16(40 + 2 * i, n, little));
  // There is one volume.
  for (const at of [92, 96, 100, 104]) view.setFloat32(at, 1, little);
  // Intent parameters of the scan do not describe labels.
  for (let at = 56; at < 68; at++) bytes[at] = 0;
  view.setInt16(68, labels ? 1002 : 0, little);
  bytes.fill(0, 328, 344);
  view.setInt16(70, codes[data.constructor.name], little);
  view.setInt16(72, 8 * data.BYTES_PER_ELEMENT, little);
  view.setFloat32(108, offset, little);
  view.setFloat32(112, 1, little);
  view.setFloat32(116, 0, little);
  for (const at of [124, 128]) view.setFloat32(at, 0, little);
  bytes.fill(0, 148, 228);
  bytes.set([0x6e, 0x2b, 0x31, 0], 344);
  if (extension.length) {
    bytes[348] = 1;
    bytes.set(extension, 352);
    view.setInt32(352, extension.length, little);
    view.setInt32(356, 30, little);
  }
  bytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), offset);
  if (!little && data.BYTES_PER_ELEMENT > 1) {
    const size = data.BYTES_PER_ELEMENT;
    for (let at = offset; at < bytes.length; at += size) bytes.subarray(at, at + size).reverse();
  }
  return bytes;
}

/** The same, compressed. @returns {Promise<Uint8Array>} */
export async function writeNiftiGz(image) {
  const stream = new Blob([writeNifti(image)]).stream().pipeThrough(new CompressionStream('gzip'));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function placeHeader(view, grid) {
  const affine = affineOf(grid);
  const handed = Math.sign(
    grid.cosines[0][0] * (grid.cosines[1][1] * grid.cosines[2][2] - grid.cosines[1][2] * grid.cosines[2][1]) -
      grid.cosines[0][1] * (grid.cosines[1][0] * grid.cosines[2][2] - grid.cosines[1][2] * grid.cosines[2][0]) +
      grid.cosines[0][2] * (grid.cosines[1][0] * grid.cosines[2][1] - grid.cosines[1][1] * grid.cosines[2][0]),
  );
  const turn = grid.cosines.map(([x, y, z]) => [x, y, handed * z]);
  const [b, c, d] = quaternion(turn);
  [handed, ...grid.zooms].forEach((n, i) => view.setFloat32(76 + 4 * i, n, true));
  view.setUint8(123, 2);
  view.setInt16(252, 1, true);
  view.setInt16(254, 1, true);
  [b, c, d, affine[0][3], affine[1][3], affine[2][3]].forEach((n, i) => view.setFloat32(256 + 4 * i, n, true));
  affine.slice(0, 3).forEach((row, i) => row.forEach((n, j) => view.setFloat32(280 + 16 * i + 4 * j, n, true)));
  view.setUint8(38, 0x72);
}

/** Vector part of the quaternion, with a scalar part that is not negative, of a rotation. */
function quaternion(r) {
  const squares = [
    1 + r[0][0] + r[1][1] + r[2][2], 1 + r[0][0] - r[1][1] - r[2][2],
    1 - r[0][0] + r[1][1] - r[2][2], 1 - r[0][0] - r[1][1] + r[2][2],
  ];
  const most = squares.indexOf(Math.max(...squares));
  const rows = [
    [squares[0], r[2][1] - r[1][2], r[0][2] - r[2][0], r[1][0] - r[0][1]],
    [r[2][1] - r[1][2], squares[1], r[1][0] + r[0][1], r[0][2] + r[2][0]],
    [r[0][2] - r[2][0], r[1][0] + r[0][1], squares[2], r[2][1] + r[1][2]],
    [r[1][0] - r[0][1], r[0][2] + r[2][0], r[2][1] + r[1][2], squares[3]],
  ];
  const scale = 2 * Math.sqrt(squares[most]);
  const sign = rows[most][0] < 0 ? -1 : 1;
  return rows[most].slice(1).map((n) => (sign * n) / scale);
}

/** Names and colours in Caret's XML, which viewers read. */
function labelTable(labels) {
  const escaped = (name) =>
    name.replace(/[&<>"]/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[c]);
  const rows = labels.map(({ index, name, color }) => {
    const [red, green, blue] = [1, 3, 5].map((at) =>
      Number((Number.parseInt(color.slice(at, at + 2), 16) / 255).toPrecision(6)),
    );
    return (
      `<Label Key="${index}" Red="${red}" Green="${green}" Blue="${blue}" Alpha="${index ? 1 : 0}">` +
      `${escaped(name)}</Label>`
    );
  });
  const content = new TextEncoder().encode(
    `<?xml version='1.0' encoding='utf-8'?>\n<CaretExtension><VolumeInformation Index="0"><LabelTable>` +
      `${rows.join('')}</LabelTable><StudyMetaDataLinkSet /><VolumeType>Label</VolumeType>` +
      '</VolumeInformation></CaretExtension>',
  );
  const bytes = new Uint8Array(Math.ceil((8 + content.length) / 16) * 16);
  bytes.set(content, 8);
  return bytes;
}
