// Ratings of the results: kept in this browser, downloaded as JSON or TSV.
'use strict';
(() => {
  const form = document.querySelector('[data-ratings]');
  if (!form) return;
  const data = JSON.parse(document.getElementById('page-data').textContent);
  const rater = form.querySelector('[name="rater"]');
  const COLUMNS = [
    'participant_id', 'bids_name', 'model', 'rating', 'note', 'rater', 'rated', 'source_sha256',
    'model_sha256',
  ];
  const parts = data.sections
    .map((section) => ({ section, fields: document.querySelector(`#${section.anchor} [data-rating]`) }))
    .filter(({ fields }) => fields);

  // Where the browser keeps nothing (private windows), a draft lasts as long as the page.
  const store = {
    get(key) {
      try {
        return JSON.parse(localStorage.getItem(key)) ?? {};
      } catch {
        return {};
      }
    },
    set(key, kept) {
      try {
        localStorage.setItem(key, JSON.stringify(kept));
      } catch {
        // Nothing is lost that the page does not show.
      }
    },
  };
  const key = ({ rated }) => `brainchop-rating ${rated.bids_name} ${rated.model} ${rated.source_sha256}`;
  const drafts = new Map();

  for (const { section, fields } of parts) {
    fields.hidden = false;
    const note = fields.querySelector('textarea');
    const draft = store.get(key(section));
    drafts.set(section, draft);
    for (const choice of fields.querySelectorAll('[type="radio"]')) {
      choice.checked = choice.value === draft.rating;
    }
    note.value = draft.note ?? '';
    fields.addEventListener('input', () => {
      draft.rating = fields.querySelector(':checked')?.value ?? '';
      draft.note = note.value;
      draft.rated = new Date().toISOString().replace(/\.\d+Z$/, 'Z');
      store.set(key(section), draft);
      showCount();
    });
  }
  rater.value = store.get('brainchop-rater').name ?? '';
  rater.addEventListener('input', () => store.set('brainchop-rater', { name: rater.value }));

  const ratings = () =>
    parts
      .map(({ section }) => [section, drafts.get(section)])
      .filter(([, draft]) => draft.rating)
      .map(([section, draft]) => ({
        ...section.rated,
        rating: draft.rating,
        note: draft.note ?? '',
        rater: rater.value.trim(),
        rated: draft.rated,
      }));

  const showCount = () => {
    const count = ratings().length;
    form.querySelector('[data-count]').textContent = `${count} of ${parts.length} rated`;
    for (const button of form.querySelectorAll('button')) button.disabled = count === 0;
  };

  const download = (text, type, extension) => {
    const link = document.createElement('a');
    link.href = URL.createObjectURL(new Blob([text], { type }));
    // The rater's name in the file's: the files of several can lie in one folder.
    const name = rater.value.trim().replace(/[^\p{L}\p{N}]+/gu, '');
    link.download = `${data.heading}${name ? `_rater-${name}` : ''}_ratings.${extension}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };
  form.querySelector('[data-json]').addEventListener('click', () => {
    download(`${JSON.stringify({ Ratings: ratings() }, null, 2)}\n`, 'application/json', 'json');
  });
  form.querySelector('[data-tsv]').addEventListener('click', () => {
    const plain = (value) => String(value ?? '').replace(/\s+/g, ' ').trim() || 'n/a';
    // A spreadsheet would run these; brainchop_bids/system/text.py has the rule.
    const cell = (value) => plain(value).replace(/^(?='*[=+\-@])/, "'");
    const lines = [COLUMNS, ...ratings().map((row) => COLUMNS.map((column) => cell(row[column])))];
    const text = lines.map((line) => line.join('\t')).join('\n');
    download(`${text}\n`, 'text/tab-separated-values', 'tsv');
  });
  form.hidden = false;
  showCount();
})();
