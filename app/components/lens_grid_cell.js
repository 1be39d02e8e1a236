// One cell's data out of the flat arrays ------------------------------------------------------------

function guessIds(data, row, column) {
  const at = (row * data.tokens.length + column) * data.k;
  return data.top.slice(at, at + data.k);
}

function cellAt(data, row, column) {
  const at = row * data.tokens.length + column;
  const ids = guessIds(data, row, column);
  return {
    guesses: ids.map((id, i) => ({
      id,
      text: data.vocab[id],
      prob: data.prob[at * data.k + i],
    })),
    shade: data.shade[at],
    value: data.value[at],
    rank: data.rank[at],
    bits: data.bits[at],
    kl: data.kl[at],
    norm: data.norm[at],
    settled: ids[0] === data.final[column],
    echo: ids[0] === data.read[column],
    follows: column + 1 < data.read.length && ids[0] === data.read[column + 1],
    // In a grid of differences: the first reading's best guess, where it is another one.
    was: data.other ? data.vocab[data.other[at]] : null,
    differs: data.other ? data.other[at] !== ids[0] : false,
    answer: data.vocab[data.final[column]],
  };
}

function spoken(data, row, column, cell) {
  const marks = [];
  if (cell.settled) marks.push("the final answer");
  if (cell.follows) marks.push("the true next token");
  if (cell.echo) marks.push("the token just read");
  if (cell.differs) marks.push(`the first reading has ${cell.was}`);
  return (
    `${data.rows[row].title}, at ${data.tokens[column]}: ${cell.guesses[0].text}, ` +
    `${percent(cell.guesses[0].prob)}${marks.map((mark) => ", " + mark).join("")}; ` +
    `${data.quantity.label} ${cell.value} ${data.quantity.unit}`.trim()
  );
}

// How a guess's place here compares with its place in the row below: "+2", "-1", "new" or "".
function rankChange(data, row, column, place) {
  if (row === 0) return "";
  const before = guessIds(data, row - 1, column).indexOf(guessIds(data, row, column)[place]);
  if (before < 0) return "new";
  if (before === place) return "";
  return before > place ? `↑${before - place}` : `↓${place - before}`;
}
