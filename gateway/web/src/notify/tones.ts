/** The sounds of what is announced. */

import type { Kind } from "./detect";

/** That of a list's notice, or of an alert. */
export type Tone = Kind | "alert";
