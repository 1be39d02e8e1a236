// What pointer and keyboard do in the head view. A `scene` is the view as it is drawn now: its root,
// store and tokens, and `mark`, which marks the chosen edge.

// The strip shows the locked token, else the one pointed at, else the chosen destination.
function paintTokens({ root, store, view, tokens }, token) {
  if (tokens.length === 0) return;
  const strip = root.querySelector(".strip");
  const shown = token ?? Math.max(view.data.selected.dest, view.edges.first);
  paintStrip(root, strip, tokens, view, shown, store.locked !== null);
}

function showChosen(scene) {
  const { data, edges } = scene.view;
  scene.mark(data.selected);
  paintTokens(scene);
  const said = spokenEdge(data, edges, data.selected.dest, data.selected.src);
  scene.root.querySelector(".readout").textContent = `Selected: ${said}.`;
}

function pointing(scene) {
  const { root, store, view } = scene;
  const tip = root.querySelector(".tip");
  const point = (token, node, fill) => {
    if (store.locked === null) paintTokens(scene, token);
    fill();
    placeTip(tip, node);
  };
  return {
    hideTip() {
      tip.hidden = true;
    },
    leave() {
      tip.hidden = true;
      paintTokens(scene);
    },
    hover(token, node) {
      point(token, node, () => fillTokenTip(tip, view.data, view.edges, token));
    },
    hoverEdge({ dest, src }, node) {
      point(dest, node, () => fillEdgeTip(tip, view.data, view.edges, dest, src));
    },
  };
}

function choosing(scene) {
  const { root, store, send, view } = scene;
  const { data, edges } = view;
  const choose = (dest, src, side = "dest") => {
    store.locked = { side, token: side === "dest" ? dest : src };
    data.selected = { layer: data.layer, head: data.head, dest, src };
    // Lines are hidden and shown by what is locked; a matrix only moves its mark.
    if (scene.tokens.length) showChosen(scene);
    else drawStage(root, store, send);
    send("chosen", { ...data.selected });
  };
  const release = () => {
    store.locked = null;
    drawStage(root, store, send);
  };
  const best = (token, from) => strongest(edges, token, from, 1)[0]?.other ?? token;
  return {
    choose,
    release,
    // A token of the strip: its strongest source comes with it.
    lock(token) {
      if (store.locked && data.selected.dest === token) release();
      else choose(token, best(token, true));
    },
    // A token of the lines: alone it locks its side, with a locked one opposite it makes an edge.
    pick(side, token) {
      const { locked } = store;
      if (locked?.side === side && locked.token === token) return release();
      if (locked && locked.side !== side) {
        const [dest, src] = side === "src" ? [locked.token, token] : [token, locked.token];
        if (src <= dest) return choose(dest, src, locked.side);
      }
      return side === "dest"
        ? choose(token, best(token, true))
        : choose(best(token, false), token, "src");
    },
  };
}

// The heads of the lines: further ones on and off, or another one alone.
function turning({ root, store, send, view }) {
  const { data } = view;
  return {
    toggleHead(head) {
      const { heads } = store.options;
      const on = heads.includes(head);
      store.change({ heads: on ? heads.filter((one) => one !== head) : [...heads, head] });
    },
    open(head) {
      store.options.heads = [];
      data.head = head;
      data.selected = { ...data.selected, layer: data.layer, head };
      send("options", { ...store.options });
      send("chosen", { ...data.selected });
      drawAll(root, store, send);
    },
  };
}
