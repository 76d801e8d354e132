// Labels and outline over the cuts: a switch for each, and how strongly labels cover the scan.
'use strict';
(() => {
  for (const figure of document.querySelectorAll('[data-layers]')) {
    const controls = figure.querySelector('[data-controls]');
    const labels = figure.querySelector('[data-layer="labels"]');
    const opacity = figure.querySelector('[data-opacity]');
    controls.hidden = false;
    const cover = () => {
      if (labels) labels.style.opacity = opacity.value / 100;
    };
    opacity.addEventListener('input', cover);
    cover();
    for (const box of figure.querySelectorAll('[data-shows]')) {
      const layer = figure.querySelector(`[data-layer="${box.dataset.shows}"]`);
      const show = () => {
        if (layer) layer.hidden = !box.checked;
      };
      box.addEventListener('change', show);
      show();
    }
  }
})();
