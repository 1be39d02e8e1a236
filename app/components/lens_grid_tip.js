// The tip: best guesses and figures of the cell under the pointer or the keyboard's focus.

const SHOWN_IN_TIP = 10;

function fillTip(tip, data, row, column) {
  const cell = cellAt(data, row, column);
  tip.replaceChildren();
  const head = element("div", "tip-head");
  head.append(element("span", "", data.rows[row].title + ", at "));
  head.append(element("span", "mono", data.tokens[column]));
  tip.append(head);
  const list = element("div", "tip-list");
  cell.guesses.slice(0, SHOWN_IN_TIP).forEach((guess, place) => {
    const name = element("span", "mono tip-token", guess.text);
    if (guess.id === data.final[column]) name.classList.add("settled");
    const track = element("span", "tip-track");
    const bar = element("span", "tip-bar");
    bar.style.width = `${100 * guess.prob}%`;
    track.append(bar);
    list.append(
      name,
      track,
      element("span", "mono tip-prob", percent(guess.prob)),
      element("span", "mono tip-change", rankChange(data, row, column, place)),
    );
  });
  tip.append(list, tipFigures(data, cell));
}

function tipFigures(data, cell) {
  const figures = element("div", "tip-figures");
  figures.append(element("span", "", `${data.quantity.label} `));
  figures.append(element("span", "mono", `${cell.value} ${data.quantity.unit}`.trim()));
  figures.append(element("br"));
  figures.append(element("span", "", "final answer "));
  figures.append(element("span", "mono", cell.answer));
  figures.append(element("span", "", ` ranks ${cell.rank} here`));
  figures.append(element("br"));
  figures.append(
    element("span", "", `entropy ${cell.bits} bits, KL ${cell.kl} nats, state's length ${cell.norm}`),
  );
  if (cell.differs) {
    figures.append(element("br"));
    figures.append(element("span", "", "the first reading says "));
    figures.append(element("span", "mono", cell.was));
  }
  return figures;
}
