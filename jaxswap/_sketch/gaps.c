/* Lives of buffers -> the gaps that XLA leaves between them:
   `_simulate/gaps.py`. */

enum { SMALL_SHARE = 512 };

/* A buffer, the steps between which it holds memory, and where it is placed. */
typedef struct { int number, start, end; Bytes nbytes, place; } Life;

static int compared(Bytes a, Bytes b) { return (a > b) - (a < b); }

static int by_bytes(const void *a, const void *b) {
  const Life *one = a, *other = b;
  int by = compared(other->nbytes, one->nbytes);
  if (!by) by = compared(other->end - other->start, one->end - one->start);
  return by ? by : compared(one->number, other->number);
}

static int by_life(const void *a, const void *b) {
  const Life *one = a, *other = b;
  int by = compared(other->end - other->start, one->end - one->start);
  if (!by) by = compared(other->nbytes, one->nbytes);
  return by ? by : compared(one->number, other->number);
}

/* Place buffers one after the other. Return where the highest one ends. `sorted` has
   room for as many. */
static Bytes placed_bytes(Life *lives, int count, Life **sorted) {
  Bytes top = 0;
  for (int i = 0; i < count; i++) {
    Life *life = lives + i;
    Bytes best = NONE, room = 0, end = 0;
    int at = i;
    for (int k = 0; k < i; k++) {
      const Life *other = sorted[k];
      if (other->end < life->start || other->start > life->end) continue;
      Bytes gap = other->place - end;
      if (gap >= life->nbytes && (best == NONE || gap < room)) best = end, room = gap;
      if (other->place + other->nbytes > end) end = other->place + other->nbytes;
    }
    life->place = best == NONE ? end : best;
    for (; at && sorted[at - 1]->place > life->place; at--) sorted[at] = sorted[at - 1];
    sorted[at] = life;
    if (life->place + life->nbytes > top) top = life->place + life->nbytes;
  }
  return top;
}

/* Return the most bytes that are alive at once: where one begins, there may be most. */
static Bytes most_alive(const Life *lives, int count) {
  Bytes most = 0;
  for (int i = 0; i < count; i++) {
    Bytes now = 0;
    for (int k = 0; k < count; k++)
      if (lives[k].start <= lives[i].start && lives[i].start <= lives[k].end)
        now += lives[k].nbytes;
    if (now > most) most = now;
  }
  return most;
}

/* Let an operand live on in the result that is written over it. */
static void live_on(Lanes *lanes, int operand, int b) {
  int old = lanes->first.at[operand];
  lanes->first.at[b] = old;
  lanes->until.at[old] = lanes->until.at[b];
}

/* Return the operand that XLA may write a buffer over: the first that it may. `i` is
   the place of the first one in `written`. */
static int overwritten(const Space *s, int i) {
  const Program *p = &s->program;
  const Lanes *lanes = &s->lanes;
  const int *made = lanes->made.at, *until = lanes->until.at;
  int b = lanes->writes.at[i], operand = NONE;
  for (; i < lanes->writes.count && lanes->writes.at[i] == b; i++) {
    int r = lanes->written.at[i], from = lanes->first.at[r];
    int is_last = made[from] < made[b] && until[from] == made[b];
    if (!is_last || lanes->fixed.at[from] || lanes->fixed.at[b]) continue;
    if (p->nbytes[lanes->of.at[from]] != p->nbytes[lanes->of.at[b]]) continue;
    if (operand == NONE || r < operand) operand = r;
  }
  return operand;
}

/* Let operands live on where results are written in place, and, if `is_any`, wherever
   XLA may write over them. */
static void continue_lives(Space *s, int is_any) {
  Lanes *lanes = &s->lanes;
  lanes->first.count = lanes->until.count = 0;
  for (int b = 0; b < lanes->of.count; b++) {
    push(s, &lanes->first, b);
    push(s, &lanes->until, most(lanes->made.at[b], lanes->read.at[b]));
  }
  int t = 0;
  for (int i = 0; is_any && i < lanes->writes.count; i++) {
    int b = lanes->writes.at[i];
    if (i && lanes->writes.at[i - 1] == b) continue;
    for (; t < lanes->taken.count && lanes->taken.at[t] <= b; t++)
      live_on(lanes, lanes->taken_from.at[t], lanes->taken.at[t]);
    int operand = lanes->first.at[b] == b ? overwritten(s, i) : NONE;
    if (operand != NONE) live_on(lanes, operand, b);
  }
  for (; t < lanes->taken.count; t++)
    live_on(lanes, lanes->taken_from.at[t], lanes->taken.at[t]);
}

/* Return how much more memory placed buffers need than the most that are alive. */
static Bytes gap_bytes(Space *s, Bytes large_bytes) {
  const Program *p = &s->program;
  Lanes *lanes = &s->lanes;
  size_t room = (size_t)lanes->of.count + 1, count = 0;
  s->lives = resized(s, s->lives, room * (sizeof(Life) + sizeof(Life *)));
  Life *lives = s->lives, **sorted = (Life **)(lives + room);
  for (int b = 0; b < lanes->of.count; b++) {
    Bytes nbytes = p->nbytes[lanes->of.at[b]];
    int is_own = !lanes->fixed.at[b] && lanes->first.at[b] == b;
    if (!is_own || nbytes < large_bytes) continue;
    lives[count++] = (Life){b, lanes->made.at[b], lanes->until.at[b], nbytes, 0};
  }
  qsort(lives, count, sizeof(Life), by_bytes);
  Bytes one = placed_bytes(lives, (int)count, sorted);
  qsort(lives, count, sizeof(Life), by_life);
  Bytes other = placed_bytes(lives, (int)count, sorted);
  return (one < other ? one : other) - most_alive(lives, (int)count);
}

/* Return how many bytes XLA is expected to leave free between buffers. */
static Bytes expected_gap_bytes(Space *s, Bytes device_bytes) {
  Bytes large_bytes = device_bytes / SMALL_SHARE, expected = 0;
  for (int is_any = 0; is_any < 2; is_any++) {
    continue_lives(s, is_any);
    Bytes gaps = gap_bytes(s, large_bytes);
    if (gaps > expected) expected = gaps;
  }
  return expected;
}
