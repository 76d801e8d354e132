// What all pages need of the document.

export const byId = (id) => document.getElementById(id);

/** Make an element with properties and children; text is never parsed as HTML. */
export function make(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/** Let a button open the dialog of a file input; `choose` gets the files. */
export function listenToFiles(button, input, choose) {
  button.addEventListener('click', () => input.click());
  input.addEventListener('change', () => {
    const files = [...input.files];
    // The same file can then be chosen again.
    input.value = '';
    if (files.length) choose(files);
  });
}

/** Show a line at the head of the page; `null` removes it. */
export function alertLine(line, { bad = true } = {}) {
  const alerts = byId('alerts');
  alerts.replaceChildren();
  if (line === null) return;
  const close = make('button', { type: 'button', textContent: 'Close' });
  close.addEventListener('click', () => alerts.replaceChildren());
  alerts.append(make('div', { className: bad ? 'alert bad' : 'alert' }, make('p', {}, line), close));
  alerts.scrollIntoView({ block: 'nearest' });
}

/** Add a line to the notes about this browser or server. */
export function note(...content) {
  byId('notes').append(make('li', {}, ...content));
}

/** The line of any error: users' mistakes say what to do, defects at least what happened. */
export function lineOf(error) {
  if (error.name === 'UserError') return error.message;
  if (error.name === 'RangeError' || /memory|allocation/i.test(error.message)) {
    return `This browser has no memory left for this scan (${error.message}); close other tabs, or use brainchop-segment.`;
  }
  return `This did not work: ${error.name}: ${error.message}`;
}

/** Offer bytes or text as a download. */
export function save(name, content, type = 'application/octet-stream') {
  const url = URL.createObjectURL(new Blob([content], { type }));
  make('a', { href: url, download: name }).click();
  // Not at once: the download begins later.
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** Show the page once its script runs. */
export function begin() {
  byId('starting').remove();
  document.querySelector('main').hidden = false;
}
