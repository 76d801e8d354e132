// Copies the methods text to the clipboard, or selects it where that is not allowed.
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
