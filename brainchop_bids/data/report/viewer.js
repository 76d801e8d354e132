// Three planes through a scan and its labels, which meet where the crosshair stands. All is
// unpacked only when the viewer is scrolled into view.
(() => {
  const UNKNOWN = [255, 0, 255];
  const MOST_ZOOM = 12;
  const SMOOTH = 4; // from this zoom on, voxels are squares
  // Which axes of the volume (right, anterior, superior) run across and up; sides as letters.
  const PLANES = {
    axial: { normal: 2, across: 0, up: 1, sides: 'LRAP' },
    coronal: { normal: 1, across: 0, up: 2, sides: 'LRSI' },
    sagittal: { normal: 0, across: 1, up: 2, sides: 'PASI' },
  };
  // Colour tables of the scan: red, green and blue by intensity, 0 to 1.
  const COLORS = {
    grey: (value) => [value, value, value],
    inverted: (value) => [1 - value, 1 - value, 1 - value],
    hot: (value) => [3 * value, 3 * value - 1, 3 * value - 2],
  };
  const data = JSON.parse(document.getElementById('page-data').textContent);
  const clamp = (value, least, most) => Math.min(Math.max(value, least), most);

  class Viewer {
    constructor(root, section) {
      this.root = root;
      this.section = section;
      this.shape = section.grid.shape;
      this.at = this.shape.map((size) => Math.floor(size / 2));
      this.zoom = 1;
      this.centre = this.shape.map((size) => size / 2);
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
        const one = { plane, range, canvas, cut: document.createElement('canvas') };
        Gestures.listen(this, one);
        return one;
      });
      for (const control of root.querySelectorAll('[data-viewer-control]')) {
        control.addEventListener('input', () => this.draw());
      }
      this.listenToButtons();
    }

    listenToButtons() {
      const actions = {
        in: () => this.zoomTo(this.zoom * 1.25),
        out: () => this.zoomTo(this.zoom / 1.25),
        reset: () => this.reset(),
      };
      for (const [name, act] of Object.entries(actions)) {
        this.root.querySelector(`[data-viewer-action="${name}"]`).addEventListener('click', act);
      }
    }

    async load() {
      const { slices, volume, grid } = this.section;
      try {
        this.scan = await Volumes.scan(slices, grid);
        this.labels = volume
          ? await Volumes.labels(volume, grid)
          : new Uint8Array(this.scan.length);
      } catch (error) {
        this.message.textContent = `The viewer cannot be shown: ${error.message}`;
        return;
      }
      this.message.hidden = true;
      this.root.querySelector('[data-panels]').hidden = false;
      this.projection = new Projection(this);
      // Begin where labels are: in their middle.
      this.move({ ...this.middleOf(null) });
      new ResizeObserver(() => this.draw()).observe(this.root);
      this.root.dataset.ready = 'yes';
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

    // Move the crosshair; the part that is shown follows it.
    move(places) {
      for (const [axis, place] of Object.entries(places)) {
        this.at[axis] = clamp(place, 0, this.shape[axis] - 1);
        const half = this.extent(axis) / 2;
        const middle = this.at[axis] + 0.5;
        this.centre[axis] = clamp(this.centre[axis], middle - half + 0.5, middle + half - 0.5);
      }
      for (const { plane, range } of this.planes) range.value = this.at[plane.normal];
      this.showPosition(this.at);
      this.frame();
    }

    moveTo(plane, fractions) {
      const voxel = this.voxelAt(plane, fractions);
      this.move({ [plane.across]: voxel[plane.across], [plane.up]: voxel[plane.up] });
    }

    // Move by some slices; return whether there were any.
    step(plane, slices) {
      const before = this.at[plane.normal];
      this.move({ [plane.normal]: before + slices });
      return this.at[plane.normal] !== before;
    }

    show(value) {
      const middle = this.middleOf(value);
      if (!middle) return false;
      this.centre = middle.map((place) => place + 0.5);
      this.move({ ...middle });
      this.projection.choose(value);
      return true;
    }

    // Voxels along an axis that are shown.
    extent(axis) {
      return this.shape[axis] / this.zoom;
    }

    // Keep what is shown inside the volume.
    frame() {
      this.centre = this.centre.map((middle, axis) => {
        const half = this.extent(axis) / 2;
        return clamp(middle, half, this.shape[axis] - half);
      });
      // Elsewhere a finger that moves up or down scrolls the page.
      for (const { canvas } of this.planes) {
        canvas.style.touchAction = this.zoom > 1 ? 'none' : 'pan-y';
      }
      this.draw();
    }

    // Zoom about a point, by default the crosshair, which stays where it is on the screen.
    zoomTo(zoom, fixed = this.at.map((place) => place + 0.5)) {
      const next = clamp(zoom, 1, MOST_ZOOM);
      const shrunk = this.zoom / next;
      this.centre = this.centre.map(
        (middle, axis) => fixed[axis] + (middle - fixed[axis]) * shrunk,
      );
      this.zoom = next;
      this.frame();
    }

    // Move the picture by fractions of its width and height.
    panBy(plane, right, down) {
      this.centre[plane.across] -= right * this.extent(plane.across);
      this.centre[plane.up] += down * this.extent(plane.up);
      this.frame();
    }

    changeWindow(wider, higher) {
      for (const [name, more] of Object.entries({ window: wider, level: higher })) {
        const control = this.control(name);
        control.value = Number(control.value) + more;
      }
      this.draw();
    }

    reset() {
      for (const name of ['window', 'level', 'colors']) {
        const control = this.control(name);
        if (name === 'colors') control.selectedIndex = 0;
        else control.value = control.defaultValue;
      }
      this.zoomTo(1);
    }

    // Where a point of a plane's picture is, in voxels; the centre of the first one is at 0.5.
    positionAt(plane, [right, down]) {
      const position = this.at.map((place) => place + 0.5);
      for (const [axis, part] of [
        [plane.across, right - 0.5],
        [plane.up, 0.5 - down],
      ]) {
        position[axis] = this.centre[axis] + part * this.extent(axis);
      }
      return position;
    }

    voxelAt(plane, fractions) {
      return this.positionAt(plane, fractions).map((place, axis) =>
        clamp(Math.floor(place), 0, this.shape[axis] - 1),
      );
    }

    labelAt([i, j, k]) {
      const value = this.labels[i + this.shape[0] * (j + this.shape[1] * k)];
      if (value === 0) return 'no label';
      const label = this.table.get(value);
      return label ? `${label.name} (${value})` : `label ${value}, not in the table`;
    }

    showPosition(voxel) {
      const [x, y, z] = this.section.grid.affine.map((row) =>
        (row[0] * voxel[0] + row[1] * voxel[1] + row[2] * voxel[2] + row[3]).toFixed(1),
      );
      this.readout.textContent = `${this.labelAt(voxel)} · R ${x}, A ${y}, S ${z} mm`;
    }

    control(name) {
      return this.root.querySelector(`[data-viewer-control="${name}"]`);
    }

    colorOf(label) {
      return this.table.get(label)?.color ?? UNKNOWN;
    }

    // Colours of the scan by intensity: red, green and blue of 0, then of 1, and so on.
    colors() {
      const [width, level] = ['window', 'level'].map((name) => Number(this.control(name).value));
      const color = COLORS[this.control('colors').value];
      const table = new Uint8ClampedArray(3 * 256);
      for (let value = 0; value < 256; value += 1) {
        const shown = clamp((value - level) / width + 0.5, 0, 1);
        table.set(color(shown).map((part) => 255 * part), 3 * value);
      }
      return table;
    }

    draw() {
      if (!this.labels) return;
      const alpha = this.control('labels').checked ? this.control('opacity').value / 100 : 0;
      const colors = this.colors();
      for (const { plane, canvas, cut } of this.planes) {
        this.cutTo(cut, plane, alpha, colors);
        const width = Math.max(1, Math.round(canvas.clientWidth * devicePixelRatio));
        canvas.width = width;
        canvas.height = Math.max(1, Math.round((width * cut.height) / cut.width));
        const context = canvas.getContext('2d');
        context.imageSmoothingEnabled = this.zoom < SMOOTH;
        const [across, up] = [this.extent(plane.across), this.extent(plane.up)];
        const left = this.centre[plane.across] - across / 2;
        const top = cut.height - this.centre[plane.up] - up / 2;
        context.drawImage(cut, left, top, across, up, 0, 0, canvas.width, canvas.height);
        this.mark(context, plane, canvas);
      }
      this.projection.paint();
    }

    cutTo(cut, plane, alpha, colors) {
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
          const scan = 3 * this.scan[at];
          const label = this.labels[at];
          const color = label && this.colorOf(label);
          for (let part = 0; part < 3; part += 1) {
            const shown = colors[scan + part];
            image.data[to + part] = color ? (1 - alpha) * shown + alpha * color[part] : shown;
          }
          image.data[to + 3] = 255;
        }
      }
      context.putImageData(image, 0, 0);
    }

    mark(context, plane, { width, height }) {
      const part = (axis) => (this.at[axis] + 0.5 - this.centre[axis]) / this.extent(axis) + 0.5;
      const x = part(plane.across) * width;
      const y = (1 - part(plane.up)) * height;
      if (this.control('crosshair').checked) {
        const gap = width / 30;
        context.strokeStyle = '#4fc3ff';
        context.lineWidth = devicePixelRatio;
        context.beginPath();
        for (const sign of [-1, 1]) {
          context.moveTo(x + sign * gap, y);
          context.lineTo(sign < 0 ? Math.min(0, x) : Math.max(width, x), y);
          context.moveTo(x, y + sign * gap);
          context.lineTo(x, sign < 0 ? Math.min(0, y) : Math.max(height, y));
        }
        context.stroke();
      }
      Letters.draw(context, plane.sides, width, height);
    }
  }

  const viewers = new Map();
  const ready = (root) => {
    const held = viewers.get(root);
    loading.unobserve(root);
    held.ready ??= held.viewer.load();
    return held.ready;
  };
  const loading = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) if (entry.isIntersecting) ready(entry.target);
    },
    { rootMargin: '300px' },
  );
  for (const section of data.sections) {
    const root = document.querySelector(`#${section.anchor} [data-viewer]`);
    if (!root) continue;
    const viewer = new Viewer(root, section);
    viewers.set(root, { viewer, ready: null });
    loading.observe(root);
    for (const button of document.querySelectorAll(`#${section.anchor} [data-find]`)) {
      button.disabled = false;
      button.addEventListener('click', async (event) => {
        await ready(root);
        if (!viewer.labels || !viewer.show(Number(button.dataset.find))) return;
        root.scrollIntoView({ block: 'center' });
        // Whoever pressed a key goes on with keys.
        if (event.detail === 0) viewer.planes[0].range.focus({ preventScroll: true });
      });
    }
  }
})();
