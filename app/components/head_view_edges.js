// What of the data is shown under the learner's options.

function edgesOf(data, options) {
  const size = data.tokens.length;
  const first = data.bos && !options.bos && size > 1 ? 1 : 0;
  const signed = data.kind === "scores";
  const valuesOf = (head) => data.values[String(head)];
  const kept = new Map();
  const keptOf = (head) => {
    if (!kept.has(head)) kept.set(head, keptEdges(valuesOf(head), size, first, options.mass));
    return kept.get(head);
  };
  return {
    size,
    first,
    signed,
    value: (dest, src, head = data.head) => valuesOf(head)[edgeAt(dest, src)],
    // Scores have no mass to share, so all of them are shown.
    shown: (dest, src, head = data.head) =>
      src >= first && dest >= first && (signed || keptOf(head)[edgeAt(dest, src)] === 1),
  };
}

// For each destination the strongest sources until they hold `mass` of what is shown of its row.
function keptEdges(values, size, first, mass) {
  const kept = new Uint8Array(values.length);
  for (let dest = first; dest < size; dest += 1) {
    const sources = [];
    let total = 0;
    for (let src = first; src <= dest; src += 1) {
      sources.push(src);
      total += values[edgeAt(dest, src)] ?? 0;
    }
    sources.sort((a, b) => values[edgeAt(dest, b)] - values[edgeAt(dest, a)]);
    let held = 0;
    for (const src of sources) {
      // The values are rounded, so the last of many tiny ones is not asked for.
      if (mass < 1 && held >= mass * total - 1e-6) break;
      kept[edgeAt(dest, src)] = 1;
      held += values[edgeAt(dest, src)] ?? 0;
    }
  }
  return kept;
}

function levelAtEdge(data, edges, dest, src) {
  const value = edges.value(dest, src);
  if (value === null || !edges.shown(dest, src)) return -1;
  if (!edges.signed) return levelOf(value, data.top);
  const share = Math.min(Math.max(value / data.top, -1), 1);
  return Math.round(127.5 + 127.5 * share);
}

// The strongest edges from a token (to its sources) or to it (from its destinations).
function strongest(edges, token, from, most) {
  const found = [];
  const [start, end] = from ? [edges.first, token] : [token, edges.size - 1];
  for (let other = start; other <= end; other += 1) {
    const [dest, src] = from ? [token, other] : [other, token];
    const value = edges.value(dest, src);
    if (value !== null && edges.shown(dest, src)) found.push({ other, value });
  }
  return found.sort((a, b) => b.value - a.value).slice(0, most);
}

function spokenEdge(data, edges, dest, src) {
  const value = writeValue(data.kind, edges.value(dest, src));
  const said = edges.shown(dest, src) ? value : `${value}, not among the strongest edges`;
  return `${data.tokens[dest]} (${dest}) looks at ${data.tokens[src]} (${src}): ${said}`;
}

function scaleTicks(data) {
  if (data.kind !== "scores") return weightTicks(data.kind, data.top);
  const ends = [-data.top, 0, data.top];
  return ends.map((value, at) => ({ shade: at / 2, text: value.toPrecision(2) }));
}
