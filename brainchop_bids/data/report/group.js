'use strict';
(() => {
  const data = JSON.parse(document.getElementById('data').textContent);
  const { columns, links, plots, totals } = data;
  const names = columns.find((column) => column.name === 'bids_name').values;
  const byId = (id) => document.getElementById(id);
  const whole = new Intl.NumberFormat('en');
  const number = (value, digits = 5) =>
    Math.abs(value) >= 1e9 || (value !== 0 && Math.abs(value) < 1e-3)
      ? value.toExponential(digits - 1)
      : value.toLocaleString('en', { maximumSignificantDigits: digits });

  function make(tag, text, attributes = {}) {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  }

  // Isolates the direction of the text from its surroundings.
  function linkTo(scan) {
    const text = make('bdi', names[scan]);
    if (links[scan] === null) return text;
    const link = make('a', undefined, { href: links[scan] });
    link.append(text);
    return link;
  }

  /* The table. */

  const ROWS = 100;
  const collator = new Intl.Collator('en', { numeric: true });
  const head = byId('scans').tHead;
  const body = byId('scans').tBodies[0];
  const haystacks = names.map((_, scan) =>
    columns
      .filter((column) => !column.numeric || column.shown)
      .map((column) => column.values[scan] ?? '')
      .join('\n')
      .toLowerCase(),
  );
  const outlying = new Set(data.outlying);
  const state = { order: data.worst, matching: [], page: 0, sorted: -1, rising: true };

  function sortBy(place) {
    const { values, numeric } = columns[place];
    state.rising = state.sorted === place ? !state.rising : true;
    state.sorted = place;
    const sign = state.rising ? 1 : -1;
    const keys = numeric ? values.map((value) => (value === null ? null : Number(value))) : values;
    const compare = numeric ? (a, b) => a - b : (a, b) => collator.compare(a, b);
    // What is not known comes last either way; scans that are equal stay in the order of names.
    state.order = names.map((_, scan) => scan).sort((a, b) => {
      if (keys[a] === null || keys[b] === null) {
        return (keys[a] === null) - (keys[b] === null) || a - b;
      }
      return sign * compare(keys[a], keys[b]) || a - b;
    });
    for (const cell of head.querySelectorAll('th')) {
      const mine = Number(cell.dataset.column) === place;
      cell.setAttribute('aria-sort', mine ? (state.rising ? 'ascending' : 'descending') : 'none');
    }
    showMatching();
  }

  function showMatching() {
    const words = byId('filter').value.toLowerCase().split(/\s+/).filter(Boolean);
    const flagged = byId('only-flagged').checked;
    const far = byId('only-outlying').checked;
    state.matching = state.order.filter(
      (scan) =>
        (!flagged || data.flagged[scan]) &&
        (!far || outlying.has(scan)) &&
        words.every((word) => haystacks[scan].includes(word)),
    );
    state.page = 0;
    showPage();
  }

  function cellOf(column, scan) {
    const value = column.values[scan];
    if (column.name === 'bids_name') {
      const cell = make('th', undefined, { scope: 'row' });
      cell.append(linkTo(scan));
      return cell;
    }
    if (typeof value === 'number') return make('td', number(value), { class: 'number' });
    const cell = make('td', undefined, { class: column.numeric ? 'number' : 'text' });
    cell.append(value === null ? '–' : make('bdi', value.replace(/,(?=\S)/g, ', ')));
    return cell;
  }

  function showPage() {
    const shown = columns.filter((column) => column.shown);
    const first = state.page * ROWS;
    const scans = state.matching.slice(first, first + ROWS);
    body.replaceChildren(
      ...scans.map((scan) => {
        const row = document.createElement('tr');
        row.append(...shown.map((column) => cellOf(column, scan)));
        return row;
      }),
    );
    const pages = Math.max(Math.ceil(state.matching.length / ROWS), 1);
    const range = scans.length ? `Rows ${first + 1}–${first + scans.length} of ` : 'None of ';
    const of = whole.format(scans.length ? state.matching.length : names.length);
    const from = state.matching.length < names.length && scans.length;
    byId('status').textContent =
      `${range}${of}${from ? ` (filtered from ${whole.format(names.length)})` : ''}`;
    byId('page').textContent = `Page ${state.page + 1} of ${pages}`;
    byId('previous').setAttribute('aria-disabled', state.page === 0);
    byId('next').setAttribute('aria-disabled', state.page >= pages - 1);
  }

  function turn(by) {
    const pages = Math.ceil(state.matching.length / ROWS);
    if (state.page + by < 0 || state.page + by >= pages) return;
    state.page += by;
    showPage();
    body.parentElement.parentElement.scrollTop = 0;
  }

  function showHead() {
    const row = document.createElement('tr');
    columns.forEach((column, place) => {
      if (!column.shown) return;
      const sort = state.sorted === place ? (state.rising ? 'ascending' : 'descending') : 'none';
      const cell = make('th', undefined, { scope: 'col', 'aria-sort': sort, 'data-column': place });
      if (column.numeric) cell.className = 'number';
      const units = column.units ? ` (${column.units})` : '';
      const button = make('button', `${column.name}${units}`, { type: 'button' });
      button.addEventListener('click', () => sortBy(place));
      cell.append(button);
      row.append(cell);
    });
    head.replaceChildren(row);
  }

  function listColumns() {
    const list = byId('columns').querySelector('ul');
    for (const column of columns) {
      if (column.name === 'bids_name') continue;
      const box = make('input', undefined, { type: 'checkbox' });
      box.checked = column.shown;
      box.addEventListener('change', () => {
        column.shown = box.checked;
        showHead();
        showPage();
      });
      const label = make('label');
      label.append(box, ' ', make('bdi', column.name));
      const item = make('li');
      item.append(label);
      list.append(item);
    }
  }

  showHead();
  listColumns();
  showMatching();
  byId('filter').addEventListener('input', showMatching);
  byId('only-flagged').addEventListener('change', showMatching);
  byId('only-outlying').addEventListener('change', showMatching);
  byId('previous').addEventListener('click', () => turn(-1));
  byId('next').addEventListener('click', () => turn(1));

  /* The plots. */

  const HEIGHT = 72;
  const EDGE = 10;
  const NEAR = 10;
  const tip = byId('tip');
  let view = 'share';
  let printing = false;

  const strips = plots
    .map((plot, place) => {
      const figure = byId(`plot-${place}`);
      const canvas = figure.querySelector('canvas');
      return canvas && { plot, figure, canvas, far: new Set(plot.outliers), points: [], fresh: false };
    })
    .filter(Boolean);

  const asShare = (plot) => plot.share && view === 'share';
  const unitsOf = (plot) => (plot.share && view === 'volume' ? 'mL' : plot.units);

  function valuesOf(plot) {
    const { values } = columns[plot.column];
    if (!asShare(plot)) return values;
    return values.map((value, scan) =>
      value === null || !totals[scan] ? null : (100 * value) / totals[scan],
    );
  }

  function quantile(sorted, share) {
    const at = share * (sorted.length - 1);
    const below = Math.floor(at);
    const above = Math.min(below + 1, sorted.length - 1);
    return sorted[below] + (at - below) * (sorted[above] - sorted[below]);
  }

  // What is compared has its spread from the table; the other view is only looked at.
  function spreadOf(plot, values) {
    if (unitsOf(plot) === plot.units) return plot.spread;
    const sorted = values.filter((value) => value !== null).sort((a, b) => a - b);
    return {
      low: sorted[0],
      quarter: quantile(sorted, 0.25),
      median: quantile(sorted, 0.5),
      threeQuarters: quantile(sorted, 0.75),
      high: sorted[sorted.length - 1],
    };
  }

  function palette() {
    if (printing) return { point: '#456', far: '#b3261e', band: '#ddd', ink: '#000' };
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(`--${name}`).trim();
    return { point: colour('point'), far: colour('far'), band: colour('band'), ink: colour('ink') };
  }

  // Points of about the same value are stacked around the middle.
  function layOut(strip, values, spread, width) {
    const span = spread.high - spread.low;
    const place = (value) =>
      span > 0 ? EDGE + ((value - spread.low) / span) * (width - 2 * EDGE) : width / 2;
    const stacks = new Map();
    const points = [];
    values.forEach((value, scan) => {
      if (value === null) return;
      // The ends are rounded otherwise than the values.
      const beyond = value < spread.low - span * 1e-4 ? -1 : value > spread.high + span * 1e-4 ? 1 : 0;
      const x = Math.min(Math.max(place(value), EDGE), width - EDGE);
      const column = Math.round(x / 4);
      const height = stacks.get(column) ?? 0;
      stacks.set(column, height + 1);
      points.push({ scan, value, beyond, x, level: height % 2 ? (height + 1) / 2 : -height / 2 });
    });
    const tallest = Math.max(...stacks.values(), 1);
    const step = Math.min(6, (HEIGHT / 2 - 8) / Math.max(Math.ceil((tallest - 1) / 2), 1));
    for (const point of points) point.y = HEIGHT / 2 + point.level * step;
    strip.points = points;
    return place;
  }

  function drawPoint(context, point, radius, isFar) {
    const { x, y } = point;
    context.beginPath();
    if (point.beyond) {
      const tip = x + point.beyond * 7;
      context.moveTo(tip, y);
      context.lineTo(x - point.beyond * 3, y - 5);
      context.lineTo(x - point.beyond * 3, y + 5);
    } else if (isFar) {
      context.moveTo(x - 5, y);
      context.lineTo(x, y - 5);
      context.lineTo(x + 5, y);
      context.lineTo(x, y + 5);
    } else {
      context.arc(x, y, radius, 0, 2 * Math.PI);
    }
    context.fill();
  }

  function draw(strip) {
    const { plot, canvas, figure } = strip;
    const width = canvas.clientWidth;
    if (!width) return;
    const values = valuesOf(plot);
    const spread = spreadOf(plot, values);
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(HEIGHT * ratio);
    const context = canvas.getContext('2d');
    context.scale(ratio, ratio);
    const colours = palette();
    const place = layOut(strip, values, spread, width);
    const left = place(spread.quarter);
    context.fillStyle = colours.band;
    context.fillRect(left, 4, Math.max(place(spread.threeQuarters) - left, 1), HEIGHT - 8);
    context.fillStyle = colours.ink;
    context.fillRect(place(spread.median) - 1, 4, 2, HEIGHT - 8);
    const radius = strip.points.length > 500 ? 2 : 3;
    context.fillStyle = colours.point;
    context.globalAlpha = strip.points.length > 20 ? 0.6 : 1;
    for (const point of strip.points) {
      if (!strip.far.has(point.scan)) drawPoint(context, point, radius, false);
    }
    context.fillStyle = colours.far;
    context.globalAlpha = 1;
    for (const point of strip.points) {
      if (strip.far.has(point.scan)) drawPoint(context, point, radius, true);
    }
    const units = unitsOf(plot) ? ` ${unitsOf(plot)}` : '';
    const [low, high] = figure.querySelectorAll('.axis span');
    low.textContent = `${number(spread.low, 4)}${units}`;
    high.textContent = spread.high > spread.low ? `${number(spread.high, 4)}${units}` : '';
    strip.fresh = true;
  }

  const visible = new Set();
  const watcher = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) {
        const strip = strips.find(({ figure }) => figure === target);
        if (isIntersecting) visible.add(strip);
        else visible.delete(strip);
        if (isIntersecting && !strip.fresh) draw(strip);
      }
    },
    { rootMargin: '300px' },
  );

  function redraw() {
    for (const strip of strips) strip.fresh = false;
    for (const strip of printing ? strips : visible) draw(strip);
  }

  function describe(strip, point) {
    const { plot } = strip;
    const { median, scale } = plot.spread;
    const parts = [`${number(point.value)} ${unitsOf(plot)}`.trim()];
    const volume = columns[plot.column].values[point.scan];
    if (asShare(plot)) parts.push(`${number(volume)} mL`);
    if (plot.compared && unitsOf(plot) === plot.units) {
      parts.push(`robust z ${((point.value - median) / scale).toFixed(1).replace('-', '−')}`);
    }
    return `${names[point.scan]}: ${parts.join(', ')}`;
  }

  // The scan under the pointer is ringed in all plots in view.
  function mark(scan) {
    for (const ring of document.querySelectorAll('.ring')) ring.remove();
    if (scan === null) return;
    for (const strip of visible) {
      const point = strip.points.find((one) => one.scan === scan);
      if (!point) continue;
      const ring = make('span', undefined, { class: 'ring' });
      ring.style.left = `${point.x}px`;
      ring.style.top = `${point.y}px`;
      strip.canvas.parentElement.append(ring);
    }
  }

  function nearest(strip, event) {
    const box = strip.canvas.getBoundingClientRect();
    const x = event.clientX - box.left;
    const y = event.clientY - box.top;
    let best = null;
    let least = NEAR * NEAR;
    for (const point of strip.points) {
      const distance = (point.x - x) ** 2 + (point.y - y) ** 2;
      // Outliers are drawn last, so they lie on top.
      if (distance < least || (distance === least && strip.far.has(point.scan))) {
        best = point;
        least = distance;
      }
    }
    return best;
  }

  function hover(strip, event) {
    const point = nearest(strip, event);
    tip.hidden = !point;
    strip.canvas.style.cursor = point && links[point.scan] !== null ? 'pointer' : '';
    mark(point ? point.scan : null);
    if (!point) return;
    tip.textContent = describe(strip, point);
    const { offsetWidth, offsetHeight } = tip;
    const left = Math.min(event.clientX + 12, document.documentElement.clientWidth - offsetWidth - 4);
    const above = event.clientY - offsetHeight - 12;
    tip.style.left = `${Math.max(left, 4)}px`;
    tip.style.top = `${above > 0 ? above : event.clientY + 16}px`;
  }

  function leave() {
    tip.hidden = true;
    mark(null);
  }

  function open(strip, event) {
    const point = nearest(strip, event);
    if (!point || links[point.scan] === null) return;
    if (event.ctrlKey || event.metaKey || event.button === 1) {
      window.open(links[point.scan], '_blank', 'noopener');
    } else {
      location.assign(links[point.scan]);
    }
  }

  for (const strip of strips) {
    watcher.observe(strip.figure);
    strip.canvas.addEventListener('pointermove', (event) => hover(strip, event));
    strip.canvas.addEventListener('pointerleave', leave);
    strip.canvas.addEventListener('click', (event) => open(strip, event));
    strip.canvas.addEventListener('auxclick', (event) => open(strip, event));
  }
  for (const input of document.querySelectorAll('input[name="view"]')) {
    input.addEventListener('change', () => {
      view = input.value;
      redraw();
    });
    // Browsers restore what was chosen before a reload.
    if (input.checked) view = input.value;
  }

  // A browser may announce a print twice.
  function print(on) {
    if (printing === on) return;
    printing = on;
    redraw();
  }
  window.addEventListener('beforeprint', () => print(true));
  window.addEventListener('afterprint', () => print(false));
  window.matchMedia('print').addEventListener('change', (event) => print(event.matches));
  window.matchMedia('(prefers-color-scheme: dark)').addEventListener('change', redraw);
  let waiting = 0;
  window.addEventListener('resize', () => {
    cancelAnimationFrame(waiting);
    waiting = requestAnimationFrame(redraw);
  });
})();
