/** The API key, where the gateway requires one: kept by this browser for the pages of this origin. */

const NAME = "tradeul.key";

export const keyStore = {
  get: (): string => {
    try {
      return localStorage.getItem(NAME) ?? "";
    } catch {
      // A page that may not store anything.
      return "";
    }
  },
  set: (key: string): void => {
    if (key) localStorage.setItem(NAME, key);
    else localStorage.removeItem(NAME);
  },
};
