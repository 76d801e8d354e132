// What mouse, touch and keys do in a plane of the viewer.
const Gestures = (() => {
  const PAGES = { PageUp: 10, PageDown: -10 }; // slices
  const NOTCH = 60; // a wheel turns by this and more at once, a touch pad by less
  const ROLL = 30; // of a touch pad, for one slice
  const ZOOMS = { '+': 1.25, '=': 1.25, '-': 0.8 };
  // How the picture moves right and down, so that what is shown lies in the key's direction.
  const PANS = {
    ArrowLeft: [0.1, 0],
    ArrowRight: [-0.1, 0],
    ArrowUp: [0, 0.1],
    ArrowDown: [0, -0.1],
  };

  // Fractions of the canvas, from its left and top.
  const fractions = (canvas, { clientX, clientY }) => {
    const box = canvas.getBoundingClientRect();
    return [(clientX - box.left) / box.width, (clientY - box.top) / box.height];
  };

  const listenToWheel = (viewer, { plane, canvas }) => {
    let aimed = false;
    let rolled = 0;
    // A page that scrolls under a resting mouse goes on scrolling. Browsers report moves of the
    // page as ones of the mouse, by nothing.
    canvas.addEventListener('pointermove', ({ movementX, movementY }) => {
      aimed ||= movementX !== 0 || movementY !== 0;
    });
    canvas.addEventListener('pointerleave', () => {
      aimed = false;
    });
    const roll = (event) => {
      if (event.ctrlKey) {
        event.preventDefault();
        const ratio = Math.exp(-Math.min(Math.max(event.deltaY, -25), 25) / 100);
        viewer.zoomTo(viewer.zoom * ratio, viewer.positionAt(plane, fractions(canvas, event)));
        return;
      }
      if (!aimed || event.shiftKey) return;
      const down = event.deltaY * [1, 33, 400][event.deltaMode];
      rolled = Math.abs(down) < NOTCH ? rolled + down : Math.sign(down) * ROLL;
      const steps = Math.trunc(rolled / ROLL);
      rolled -= steps * ROLL;
      // Beyond the last slice the page scrolls.
      if (viewer.step(plane, -steps) || steps === 0) event.preventDefault();
    };
    canvas.addEventListener('wheel', roll, { passive: false });
  };

  const listenToPointers = (viewer, { plane, canvas, range }) => {
    const held = new Map();
    let action = null;
    const moveTo = (event) => viewer.moveTo(plane, fractions(canvas, event));
    const middle = () => {
      const [one, other] = held.values();
      return {
        clientX: (one.clientX + other.clientX) / 2,
        clientY: (one.clientY + other.clientY) / 2,
        apart: Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY),
      };
    };
    const pan = (from, to) => {
      const [[x, y], [right, down]] = [fractions(canvas, from), fractions(canvas, to)];
      viewer.panBy(plane, right - x, down - y);
    };
    const pinch = (event) => {
      const before = middle();
      held.set(event.pointerId, event);
      const after = middle();
      const fixed = viewer.positionAt(plane, fractions(canvas, before));
      viewer.zoomTo((viewer.zoom * after.apart) / Math.max(before.apart, 1), fixed);
      pan(before, after);
    };
    const drag = (event) => {
      const last = held.get(event.pointerId);
      held.set(event.pointerId, event);
      if (action === 'move') moveTo(event);
      if (action === 'pan') pan(last, event);
      if (action === 'window') {
        viewer.changeWindow(event.clientX - last.clientX, event.clientY - last.clientY);
      }
    };
    canvas.addEventListener('pointerdown', (event) => {
      canvas.setPointerCapture(event.pointerId);
      held.set(event.pointerId, event);
      if (event.pointerType === 'touch') {
        // It may become a scroll of the page, which must not move the crosshair.
        action = held.size === 1 ? 'tap' : 'pinch';
        return;
      }
      range.focus({ preventScroll: true });
      action = { 0: event.shiftKey ? 'pan' : 'move', 1: 'pan', 2: 'window' }[event.button];
      if (action === 'move') moveTo(event);
    });
    canvas.addEventListener('pointermove', (event) => {
      if (!held.has(event.pointerId)) {
        viewer.showPosition(viewer.voxelAt(plane, fractions(canvas, event)));
      } else if (action === 'pinch') {
        if (held.size === 2) pinch(event);
      } else {
        if (action === 'tap') action = 'move';
        drag(event);
      }
    });
    const release = (event) => {
      if (event.type === 'pointerup' && action === 'tap') moveTo(event);
      held.delete(event.pointerId);
      if (held.size === 0) action = null;
    };
    canvas.addEventListener('pointerup', release);
    canvas.addEventListener('pointercancel', release);
    canvas.addEventListener('pointerleave', () => viewer.showPosition(viewer.at));
    canvas.addEventListener('contextmenu', (event) => event.preventDefault());
    // The middle button would scroll the page, and any take the focus from the slider.
    canvas.addEventListener('mousedown', (event) => event.preventDefault());
  };

  // Sliders have the arrow keys, Home and End from the browser.
  const listenToKeys = (viewer, { plane, range }) => {
    range.addEventListener('keydown', (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const { key } = event;
      if (event.shiftKey && key in PANS) viewer.panBy(plane, ...PANS[key]);
      else if (key in PAGES) viewer.step(plane, PAGES[key]);
      else if (key in ZOOMS) viewer.zoomTo(viewer.zoom * ZOOMS[key]);
      else if (key === '0') viewer.reset();
      else return;
      event.preventDefault();
    });
  };

  return {
    listen: (viewer, panel) => {
      listenToWheel(viewer, panel);
      listenToPointers(viewer, panel);
      listenToKeys(viewer, panel);
    },
  };
})();
