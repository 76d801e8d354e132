// The methods text into the clipboard, or at least selected.
'use strict';
(() => {
  for (const button of document.querySelectorAll('[data-copies]')) {
    button.hidden = false;
    button.addEventListener('click', async () => {
      const text = document.getElementById(button.dataset.copies);
      getSelection().selectAllChildren(text);
      try {
        await navigator.clipboard.writeText(text.innerText.trim());
        button.textContent = 'Copied';
      } catch {
        button.textContent = 'Selected: copy it with Ctrl+C';
      }
    });
  }
})();
