// The front of labels as seen from any side. Only the voxels at the surface are drawn, as points
// with a depth, lit from where they are seen. A single structure is shown in its colour inside the
// shape of all labels, which is drawn like glass. Fluid would hide the brain and is left out.
const GLASS = [190, 200, 215];

const Letters = {
  // Letters of the sides at the left, right, top and bottom of a picture.
  draw(context, sides, width, height) {
    const size = 14 * devicePixelRatio;
    context.font = `bold ${size}px sans-serif`;
    context.fillStyle = '#ffd600';
    // To be read on white, too.
    context.strokeStyle = '#000';
    context.lineWidth = size / 5;
    context.lineJoin = 'round';
    context.textAlign = 'center';
    context.textBaseline = 'middle';
    const places = [
      [size * 0.7, height / 2],
      [width - size * 0.7, height / 2],
      [width / 2, size * 0.7],
      [width / 2, height - size * 0.7],
    ];
    places.forEach((place, at) => {
      context.strokeText(sides[at], ...place);
      context.fillText(sides[at], ...place);
    });
  },
};

class Projection {
  constructor(viewer) {
    this.viewer = viewer;
    this.root = viewer.root.querySelector('[data-projection]');
    this.canvas = this.root.querySelector('canvas');
    this.surfaces = new Map();
    this.select = this.root.querySelector('select');
    for (const { name, values } of viewer.section.structures) {
      this.select.add(new Option(name, values.join(' ')));
    }
    this.select.addEventListener('input', () => this.draw());
    // Degrees. Sliders are coarser than a hand.
    this.angles = {};
    this.sliders = {};
    for (const name of ['turn', 'tilt']) {
      const slider = this.root.querySelector(`[data-angle="${name}"]`);
      this.sliders[name] = slider;
      this.angles[name] = Number(slider.value);
      slider.addEventListener('input', () => this.turnTo({ [name]: Number(slider.value) }));
    }
    this.listen();
    // Nothing is computed for who does not look.
    this.seen = false;
    const watch = new IntersectionObserver((entries) => {
      this.seen = entries.at(-1).isIntersecting;
      this.draw();
    });
    watch.observe(this.canvas);
  }

  listen() {
    const { canvas } = this;
    let last = null;
    let moved = 0;
    canvas.addEventListener('pointerdown', (event) => {
      canvas.setPointerCapture(event.pointerId);
      last = event;
      moved = 0;
    });
    canvas.addEventListener('pointermove', (event) => {
      if (!last) return;
      const [right, down] = [event.clientX - last.clientX, event.clientY - last.clientY];
      last = event;
      moved += Math.abs(right) + Math.abs(down);
      const { turn, tilt } = this.angles;
      this.turnTo({ turn: turn - right / 2, tilt: tilt + down / 2 });
    });
    for (const end of ['pointerup', 'pointercancel']) {
      canvas.addEventListener(end, (event) => {
        if (last && moved < 4 && end === 'pointerup') this.pick(event);
        last = null;
      });
    }
  }

  turnTo({ turn = this.angles.turn, tilt = this.angles.tilt }) {
    // All around, and then from the other side again.
    this.angles.turn = ((((turn + 180) % 360) + 360) % 360) - 180;
    this.angles.tilt = Math.min(Math.max(tilt, -90), 90);
    for (const [name, slider] of Object.entries(this.sliders)) slider.value = this.angles[name];
    this.draw();
  }

  // Choose the middle and the size of the picture, so that it holds all labels from any side.
  fit() {
    const { places } = this.surface('');
    const least = [Infinity, Infinity, Infinity];
    const most = [-Infinity, -Infinity, -Infinity];
    for (let at = 0; at < places.length; at += 1) {
      const axis = at % 3;
      if (places[at] < least[axis]) least[axis] = places[at];
      if (places[at] > most[axis]) most[axis] = places[at];
    }
    const sides = places.length ? most.map((place, axis) => place - least[axis]) : [0, 0, 0];
    this.middle = sides.map((side, axis) => (side ? least[axis] + side / 2 : 0));
    this.size = Math.ceil(Math.hypot(...sides)) + 4;
    this.picture = document.createElement('canvas');
    this.picture.width = this.picture.height = this.size;
  }

  // Show the structure that a label is part of.
  choose(label) {
    const { structures } = this.viewer.section;
    const found = structures.find(({ values }) => values.includes(label));
    this.select.value = found ? found.values.join(' ') : '';
    this.draw();
  }

  // Move the crosshair to the point that is seen.
  pick({ clientX, clientY }) {
    const box = this.canvas.getBoundingClientRect();
    const x = Math.floor(((clientX - box.left) / box.width) * this.size);
    const y = Math.floor(((clientY - box.top) / box.height) * this.size);
    const point = this.front[x + this.size * y];
    if (point === -1) return;
    this.viewer.move({ ...this.drawn.place(point) });
  }

  // Which labels are part of a choice, by their values.
  members(choice) {
    const member = new Uint8Array(65536);
    if (choice) for (const value of choice.split(' ')) member[value] = 1;
    else {
      member.fill(1, 1);
      for (const { values, fluid } of this.viewer.section.structures) {
        if (fluid) for (const value of values) member[value] = 0;
      }
    }
    return member;
  }

  // All but fluid is kept, and one other choice.
  surface(choice) {
    if (!this.surfaces.has(choice)) {
      const all = this.surfaces.get('');
      this.surfaces = new Map(all ? [['', all]] : []);
      const { labels, shape } = this.viewer;
      this.surfaces.set(choice, new Surface(labels, shape, this.members(choice)));
    }
    return this.surfaces.get(choice);
  }

  // Directions to the right of the picture, up, and towards whoever looks: at first from behind,
  // so that left is left, then turned about the head and raised.
  look() {
    const turn = (this.angles.turn * Math.PI) / 180;
    const tilt = (this.angles.tilt * Math.PI) / 180;
    const [cos, sin] = [Math.cos(turn), Math.sin(turn)];
    const [low, high] = [Math.cos(tilt), Math.sin(tilt)];
    return [
      [cos, sin, 0],
      [-high * sin, high * cos, low],
      [low * sin, -low * cos, high],
    ];
  }

  // The nearest point of a surface for each pixel, or -1.
  splat(surface, [right, up, near]) {
    const { size, middle } = this;
    const front = new Int32Array(size * size).fill(-1);
    const depths = new Float32Array(size * size).fill(-Infinity);
    for (let point = 0; point < surface.count; point += 1) {
      const x = surface.places[3 * point] - middle[0];
      const y = surface.places[3 * point + 1] - middle[1];
      const z = surface.places[3 * point + 2] - middle[2];
      const column = Math.floor(size / 2 + right[0] * x + right[1] * y);
      const line = Math.floor(size / 2 - (up[0] * x + up[1] * y + up[2] * z));
      // Fluid may reach beyond the picture.
      if (column < 1 || column >= size || line < 1 || line >= size) continue;
      const depth = near[0] * x + near[1] * y + near[2] * z;
      // Two by two pixels, so that no holes are left between turned voxels.
      for (let pixel = 0; pixel < 4; pixel += 1) {
        const at = column - (pixel & 1) + size * (line - (pixel >> 1));
        if (depth <= depths[at]) continue;
        depths[at] = depth;
        front[at] = point;
      }
    }
    return front;
  }

  draw() {
    if (!this.seen) return;
    if (!this.picture) this.fit();
    const choice = this.select.value;
    this.directions = this.look();
    const near = this.directions[2];
    const body = this.surface('');
    this.drawn = this.surface(choice);
    this.front = this.splat(this.drawn, this.directions);
    const glass = choice ? this.splat(body, this.directions) : null;
    const context = this.picture.getContext('2d');
    const image = context.createImageData(this.size, this.size);
    for (let at = 0; at < this.front.length; at += 1) {
      let color = null;
      let light = 0;
      if (this.front[at] !== -1) {
        color = this.viewer.colorOf(this.drawn.values[this.front[at]]);
        light = 0.3 + 0.7 * this.drawn.facing(this.front[at], near);
      } else if (glass && glass[at] !== -1) {
        color = GLASS;
        light = 0.15 + 0.5 * (1 - body.facing(glass[at], near));
      }
      if (!color) continue;
      for (let part = 0; part < 3; part += 1) image.data[4 * at + part] = light * color[part];
      image.data[4 * at + 3] = 255;
    }
    context.putImageData(image, 0, 0);
    this.paint();
  }

  // Show the picture with letters and crosshair; it depends on neither.
  paint() {
    if (!this.seen || !this.picture) return;
    const { canvas, size } = this;
    const [right, up] = this.directions;
    canvas.width = canvas.height = Math.max(1, Math.round(canvas.clientWidth * devicePixelRatio));
    const context = canvas.getContext('2d');
    context.drawImage(this.picture, 0, 0, canvas.width, canvas.height);
    // The side of the body that each end of the picture shows most of.
    const letter = (way, sign) => {
      const parts = way.map(Math.abs);
      const axis = parts.indexOf(Math.max(...parts));
      return ['LR', 'PA', 'IS'][axis][Number(sign * way[axis] > 0)];
    };
    const sides = [letter(right, -1), letter(right, 1), letter(up, 1), letter(up, -1)];
    Letters.draw(context, sides, canvas.width, canvas.height);
    if (!this.viewer.control('crosshair').checked) return;
    const place = this.viewer.at.map((at, axis) => at - this.middle[axis]);
    const along = (way) => way.reduce((sum, part, axis) => sum + part * place[axis], 0);
    const scale = canvas.width / size;
    context.strokeStyle = '#4fc3ff';
    context.lineWidth = 2 * devicePixelRatio;
    context.beginPath();
    const [x, y] = [scale * (size / 2 + along(right)), scale * (size / 2 - along(up))];
    context.arc(x, y, 5 * devicePixelRatio, 0, 7);
    context.stroke();
  }
}
