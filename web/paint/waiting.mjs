/**
 * A run that waits for this node's marks. The server says so again every 2 seconds, so a page that
 * was just opened hears of it, and a wait that is no longer heard of is over.
 *
 * Events: "change" when a wait began, its time went on, or it ended.
 */

const SILENCE_MS = 7000;

export class Waiting extends EventTarget {
  constructor() {
    super();
    this.token = null;
    this.prompt = null;
    this.until = 0;
    this.answered = false;
    this.over = new Set(); // tokens: messages may overtake each other
    this.timer = null;
  }

  /** Whether a person is asked now. */
  get isOpen() {
    return this.token !== null && !this.answered;
  }

  /** @returns {boolean} whether this wait is new */
  hear({ token, prompt_id: prompt, seconds_left: seconds }, now = Date.now()) {
    if (typeof token !== "string" || this.over.has(token)) return false;
    // A node that runs for several batches asks for all at once; they get their turn.
    if (this.token !== null && token !== this.token) return false;
    const isNew = token !== this.token;
    if (isNew) this.answered = false;
    Object.assign(this, { token, prompt, until: now + seconds * 1000 });
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.#forget(), SILENCE_MS);
    this.#changed();
    return isNew;
  }

  /** The wait of that token is over. @returns {boolean} whether it was ours and not answered here */
  end(token) {
    this.over.add(token);
    if (token !== this.token) return false;
    const surprising = this.isOpen;
    this.#forget();
    return surprising;
  }

  /** The answer is on the server. */
  answer() {
    this.answered = true;
    this.#changed();
  }

  /** Such as "4:05 left" or "58 min left". */
  timeLeft(now = Date.now()) {
    const seconds = Math.max(0, Math.round((this.until - now) / 1000));
    if (seconds >= 48 * 3600) return `${Math.round(seconds / 86400)} days left`;
    if (seconds >= 2 * 3600) return `${Math.round(seconds / 3600)} h left`;
    if (seconds >= 600) return `${Math.round(seconds / 60)} min left`;
    return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")} left`;
  }

  dispose() {
    clearTimeout(this.timer);
  }

  #forget() {
    clearTimeout(this.timer);
    this.token = null;
    this.#changed();
  }

  #changed() {
    this.dispatchEvent(new CustomEvent("change"));
  }
}
