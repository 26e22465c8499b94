/** What of a text answers a query, to mark it. */

export interface Part {
  text: string;
  isMatch: boolean;
}

/** Returns the text in parts: each word's beginning that a word of the query names, without regard to case. */
export function matchParts(text: string, query: string): Part[] {
  const words = query.toLowerCase().split(/[^a-z0-9]+/).filter(Boolean); // prettier-ignore
  const parts: Part[] = [];
  const add = (piece: string, isMatch: boolean) => {
    const last = parts.at(-1);
    if (piece === "") return;
    if (last?.isMatch === isMatch) last.text += piece;
    else parts.push({ text: piece, isMatch });
  };
  // Alternately what is between words, and words.
  for (const piece of text.split(/([A-Za-z0-9]+)/)) {
    const lower = piece.toLowerCase();
    const longest = words
      .filter((word) => lower.startsWith(word))
      .reduce((length, word) => Math.max(length, word.length), 0);
    add(piece.slice(0, longest), true);
    add(piece.slice(longest), false);
  }
  return parts;
}
