// Scan and labels of the viewers, unpacked from the page: the scan is one picture of all axial
// slices, the labels are compressed bytes. Both become arrays in which the axis towards the right
// runs fastest, then anterior, then superior. Models of one scan share its slices.
const Volumes = (() => {
  const unpacked = new Map();

  const bytesOf = (id) => {
    const text = atob(document.getElementById(id).textContent.trim());
    const bytes = new Uint8Array(text.length);
    for (let at = 0; at < text.length; at += 1) bytes[at] = text.charCodeAt(at);
    return bytes;
  };

  const unpackScan = async (id, { shape: [nx, ny, nz], columns }) => {
    const picture = await createImageBitmap(new Blob([bytesOf(id)], { type: 'image/webp' }));
    const canvas = document.createElement('canvas');
    canvas.width = columns * nx;
    canvas.height = ny;
    const context = canvas.getContext('2d', { willReadFrequently: true });
    const volume = new Uint8Array(nx * ny * nz);
    // A row of slices at a time: one canvas of all would need hundreds of megabytes.
    for (let first = 0; first < nz; first += columns) {
      context.drawImage(picture, 0, -(first / columns) * ny);
      const pixels = context.getImageData(0, 0, canvas.width, ny).data;
      for (let k = first; k < Math.min(first + columns, nz); k += 1) {
        for (let j = 0; j < ny; j += 1) {
          const row = ((ny - 1 - j) * canvas.width + (k - first) * nx) * 4;
          const at = nx * (j + ny * k);
          for (let i = 0; i < nx; i += 1) volume[at + i] = pixels[row + 4 * i];
        }
      }
    }
    picture.close();
    return volume;
  };

  const unpackLabels = async (id, { shape: [nx, ny, nz] }) => {
    const packed = new Blob([bytesOf(id)]).stream();
    const buffer = await new Response(
      packed.pipeThrough(new DecompressionStream('gzip')),
    ).arrayBuffer();
    const count = nx * ny * nz;
    if (buffer.byteLength === count) return new Uint8Array(buffer);
    if (buffer.byteLength !== 2 * count) throw new Error('labels and scan differ in size');
    return new Uint16Array(buffer);
  };

  const once = (unpack) => (id, grid) => {
    if (!unpacked.has(id)) unpacked.set(id, unpack(id, grid));
    return unpacked.get(id);
  };

  return { scan: once(unpackScan), labels: once(unpackLabels) };
})();
