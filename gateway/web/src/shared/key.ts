/** The API key, where the gateway requires one: kept by this browser for the pages of this origin. */

const NAME = "tradeul.key";

export const keyStore = {
  get: (): string => localStorage.getItem(NAME) ?? "",
  set: (key: string): void => {
    if (key) localStorage.setItem(NAME, key);
    else localStorage.removeItem(NAME);
  },
};
