// Three planes through a scan and its labels, which meet where the crosshair stands. The scan is
// one picture of all axial slices, the labels are compressed bytes; both are unpacked only when
// the viewer is scrolled into view.
'use strict';
(() => {
  const UNKNOWN = [255, 0, 255];
  // Which axes of the volume (right, anterior, superior) run across and up; sides as letters.
  const PLANES = {
    axial: { normal: 2, across: 0, up: 1, sides: 'LRAP' },
    coronal: { normal: 1, across: 0, up: 2, sides: 'LRSI' },
    sagittal: { normal: 0, across: 1, up: 2, sides: 'PASI' },
  };
  const data = JSON.parse(document.getElementById('page-data').textContent);
  const volumes = new Map();

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

  const unpackLabels = async (id, [nx, ny, nz]) => {
    const packed = new Blob([bytesOf(id)]).stream();
    const buffer = await new Response(
      packed.pipeThrough(new DecompressionStream('gzip')),
    ).arrayBuffer();
    const count = nx * ny * nz;
    if (buffer.byteLength === count) return new Uint8Array(buffer);
    if (buffer.byteLength !== 2 * count) throw new Error('labels and scan differ in size');
    return new Uint16Array(buffer);
  };

  const once = (key, make) => {
    if (!volumes.has(key)) volumes.set(key, make());
    return volumes.get(key);
  };

  class Viewer {
    constructor(root, section) {
      this.root = root;
      this.section = section;
      this.grid = section.grid;
      this.shape = this.grid.shape;
      this.at = this.shape.map((size) => Math.floor(size / 2));
      this.table = new Map(section.labels.map((label) => [label.value, label]));
      this.readout = root.querySelector('[data-readout]');
      this.message = root.querySelector('[data-message]');
      this.planes = Object.entries(PLANES).map(([name, plane]) => {
        const panel = root.querySelector(`[data-plane="${name}"]`);
        const range = panel.querySelector('input');
        range.max = this.shape[plane.normal] - 1;
        range.addEventListener('input', () => this.move({ [plane.normal]: Number(range.value) }));
        const canvas = panel.querySelector('canvas');
        const extent = [plane.across, plane.up].map((axis) => this.shape[axis]);
        canvas.style.aspectRatio = extent.join(' / ');
        // One scale for all three.
        panel.style.flex = `${extent[0]} 1 0`;
        this.listen(canvas, plane);
        return { name, plane, range, canvas, cut: document.createElement('canvas') };
      });
      for (const control of root.querySelectorAll('[data-viewer-control]')) {
        control.addEventListener('input', () => this.draw());
      }
    }

    async load() {
      const { slices, volume } = this.section;
      try {
        this.scan = await once(slices, () => unpackScan(slices, this.grid));
        this.labels = volume
          ? await once(volume, () => unpackLabels(volume, this.shape))
          : new Uint8Array(this.scan.length);
      } catch (error) {
        this.message.textContent = `The viewer cannot be shown: ${error.message}`;
        return;
      }
      this.message.hidden = true;
      this.root.querySelector('[data-panels]').hidden = false;
      this.start();
      new ResizeObserver(() => this.draw()).observe(this.root);
      this.root.dataset.ready = 'yes';
    }

    // Begin where labels are: in their middle.
    start() {
      const middle = this.middleOf(null);
      this.move(middle ? { ...middle } : {});
    }

    // The voxel of a label (or of any) nearest to its centre of mass.
    middleOf(value) {
      const sums = [0, 0, 0];
      let count = 0;
      this.each(value, (i, j, k) => {
        sums[0] += i;
        sums[1] += j;
        sums[2] += k;
        count += 1;
      });
      const [x, y, z] = sums.map((sum) => sum / count);
      let best = null;
      let least = Infinity;
      this.each(value, (i, j, k) => {
        const away = (i - x) ** 2 + (j - y) ** 2 + (k - z) ** 2;
        if (away < least) {
          best = [i, j, k];
          least = away;
        }
      });
      return best;
    }

    each(value, visit) {
      const [nx, ny, nz] = this.shape;
      let at = 0;
      for (let k = 0; k < nz; k += 1) {
        for (let j = 0; j < ny; j += 1) {
          for (let i = 0; i < nx; i += 1, at += 1) {
            const label = this.labels[at];
            if (value === null ? label !== 0 : label === value) visit(i, j, k);
          }
        }
      }
    }

    move(places) {
      for (const [axis, place] of Object.entries(places)) {
        this.at[axis] = Math.min(Math.max(place, 0), this.shape[axis] - 1);
      }
      for (const { plane, range } of this.planes) range.value = this.at[plane.normal];
      this.showPosition(this.at);
      this.draw();
    }

    show(value) {
      const middle = this.middleOf(value);
      if (middle) this.move({ ...middle });
      return middle !== null;
    }

    labelAt([i, j, k]) {
      const value = this.labels[i + this.shape[0] * (j + this.shape[1] * k)];
      if (value === 0) return 'no label';
      const label = this.table.get(value);
      return label ? `${label.name} (${value})` : `label ${value}, not in the table`;
    }

    showPosition(voxel) {
      const [x, y, z] = this.grid.affine.map((row) =>
        (row[0] * voxel[0] + row[1] * voxel[1] + row[2] * voxel[2] + row[3]).toFixed(1),
      );
      this.readout.textContent = `${this.labelAt(voxel)} · R ${x}, A ${y}, S ${z} mm`;
    }

    listen(canvas, plane) {
      const voxel = (event) => {
        const box = canvas.getBoundingClientRect();
        const right = (event.clientX - box.left) / box.width;
        const down = (event.clientY - box.top) / box.height;
        const position = [...this.at];
        const inside = (part, size) => Math.min(Math.max(Math.floor(part * size), 0), size - 1);
        position[plane.across] = inside(right, this.shape[plane.across]);
        position[plane.up] = inside(1 - down, this.shape[plane.up]);
        return position;
      };
      canvas.addEventListener('pointerdown', (event) => {
        canvas.setPointerCapture(event.pointerId);
        this.move({ ...voxel(event) });
      });
      canvas.addEventListener('pointermove', (event) => {
        if (event.buttons) this.move({ ...voxel(event) });
        else this.showPosition(voxel(event));
      });
      canvas.addEventListener('pointerleave', () => this.showPosition(this.at));
    }

    control(name) {
      return this.root.querySelector(`[data-viewer-control="${name}"]`);
    }

    draw() {
      if (!this.labels) return;
      const alpha = this.control('labels').checked ? this.control('opacity').value / 100 : 0;
      for (const { plane, canvas, cut } of this.planes) {
        this.cutTo(cut, plane, alpha);
        const width = Math.max(1, Math.round(canvas.clientWidth * devicePixelRatio));
        canvas.width = width;
        canvas.height = Math.max(1, Math.round((width * cut.height) / cut.width));
        const context = canvas.getContext('2d');
        context.drawImage(cut, 0, 0, canvas.width, canvas.height);
        this.mark(context, plane, canvas);
      }
    }

    cutTo(cut, plane, alpha) {
      const [nx, ny] = this.shape;
      const steps = [1, nx, nx * ny];
      cut.width = this.shape[plane.across];
      cut.height = this.shape[plane.up];
      const context = cut.getContext('2d');
      const image = context.createImageData(cut.width, cut.height);
      const from = this.at[plane.normal] * steps[plane.normal];
      let to = 0;
      for (let row = cut.height - 1; row >= 0; row -= 1) {
        let at = from + row * steps[plane.up];
        for (let column = 0; column < cut.width; column += 1, at += steps[plane.across], to += 4) {
          const grey = this.scan[at];
          const label = this.labels[at];
          const color = label && (this.table.get(label)?.color ?? UNKNOWN);
          for (let part = 0; part < 3; part += 1) {
            image.data[to + part] = color ? (1 - alpha) * grey + alpha * color[part] : grey;
          }
          image.data[to + 3] = 255;
        }
      }
      context.putImageData(image, 0, 0);
    }

    mark(context, plane, { width, height }) {
      const x = ((this.at[plane.across] + 0.5) / this.shape[plane.across]) * width;
      const y = (1 - (this.at[plane.up] + 0.5) / this.shape[plane.up]) * height;
      if (this.control('crosshair').checked) {
        const gap = width / 30;
        context.strokeStyle = '#4fc3ff';
        context.lineWidth = devicePixelRatio;
        context.beginPath();
        for (const sign of [-1, 1]) {
          context.moveTo(x + sign * gap, y);
          context.lineTo(sign < 0 ? 0 : width, y);
          context.moveTo(x, y + sign * gap);
          context.lineTo(x, sign < 0 ? 0 : height);
        }
        context.stroke();
      }
      const size = 14 * devicePixelRatio;
      context.font = `bold ${size}px sans-serif`;
      context.fillStyle = '#ffd600';
      context.textAlign = 'center';
      context.textBaseline = 'middle';
      const [left, right, top, bottom] = plane.sides;
      context.fillText(left, size * 0.7, height / 2);
      context.fillText(right, width - size * 0.7, height / 2);
      context.fillText(top, width / 2, size * 0.7);
      context.fillText(bottom, width / 2, height - size * 0.7);
    }
  }

  const loading = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting) continue;
        loading.unobserve(entry.target);
        viewers.get(entry.target).ready = viewers.get(entry.target).viewer.load();
      }
    },
    { rootMargin: '300px' },
  );
  const viewers = new Map();
  for (const section of data.sections) {
    const root = document.querySelector(`#${section.anchor} [data-viewer]`);
    if (!root) continue;
    const viewer = new Viewer(root, section);
    viewers.set(root, { viewer, ready: null });
    loading.observe(root);
    for (const button of document.querySelectorAll(`#${section.anchor} [data-find]`)) {
      button.disabled = false;
      button.addEventListener('click', async () => {
        const held = viewers.get(root);
        held.ready ??= viewer.load();
        loading.unobserve(root);
        await held.ready;
        if (viewer.labels && viewer.show(Number(button.dataset.find))) {
          root.scrollIntoView({ block: 'center' });
        }
      });
    }
  }
})();
