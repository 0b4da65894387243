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

/* Insert a life behind those that are placed as low as it or lower. */
static void insert(Life *sorted, int count, Life life) {
  int low = 0, high = count;
  while (low < high) {
    int middle = (low + high) / 2;
    if (sorted[middle].place <= life.place) low = middle + 1;
    else high = middle;
  }
  memmove(sorted + low + 1, sorted + low, sizeof(Life) * (size_t)(count - low));
  sorted[low] = life;
}

/* Return the place for a life: the smallest gap that is large enough between those at the
   same time, or above them. `beside` has room for as many numbers as there are. */
static Bytes place_for(const Life *life, const Life *sorted, int count, int *beside) {
  Bytes best = NONE, room = 0, end = 0;
  int found = 0;
  for (int k = 0; k < count; k++) { /* No branch: no guess at one is wrong. */
    beside[found] = k;
    found += (sorted[k].end >= life->start) & (sorted[k].start <= life->end);
  }
  for (int i = 0; i < found; i++) {
    const Life *other = sorted + beside[i];
    Bytes gap = other->place - end, top = other->place + other->nbytes;
    if (gap >= life->nbytes && (best == NONE || gap < room)) best = end, room = gap;
    if (top > end) end = top;
  }
  return best == NONE ? end : best;
}

/* Place buffers one after the other. Return where the highest one ends. `sorted` and
   `beside` have room for as many. */
static Bytes placed_bytes(const Life *lives, int count, Life *sorted, int *beside) {
  Bytes top = 0;
  for (int i = 0; i < count; i++) {
    Life life = lives[i];
    life.place = place_for(&life, sorted, i, beside);
    insert(sorted, i, life);
    if (life.place + life.nbytes > top) top = life.place + life.nbytes;
  }
  return top;
}

/* Return the most bytes that are alive at once. */
static Bytes most_alive(Space *s, const Life *lives, int count) {
  int steps = s->lanes.entry.count;
  Bytes *sums = s->lanes.sums;
  memset(sums, 0, sizeof(Bytes) * (size_t)(steps + 1));
  for (int i = 0; i < count; i++) {
    sums[lives[i].start] += lives[i].nbytes;
    sums[lives[i].end + 1] -= lives[i].nbytes;
  }
  return highest_sum(sums, steps, 0);
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
  const Buffer *buffers = lanes->buffers;
  const int *until = lanes->until.at;
  int b = lanes->writes.at[i], operand = NONE;
  for (; i < lanes->writes.count && lanes->writes.at[i] == b; i++) {
    int r = lanes->written.at[i], from = lanes->first.at[r];
    int made = buffers[b].made, is_last = until[from] == made;
    if (!is_last || buffers[from].made >= made) continue;
    if (buffers[from].fixed || buffers[b].fixed) continue;
    if (p->nbytes[buffers[from].of] != p->nbytes[buffers[b].of]) continue;
    if (operand == NONE || r < operand) operand = r;
  }
  return operand;
}

/* Let operands live on where results are written in place, and, if `is_any`, wherever
   XLA may write over them. */
static void continue_lives(Space *s, int is_any) {
  Lanes *lanes = &s->lanes;
  fill(s, &lanes->first, lanes->buffer_count, 0);
  fill(s, &lanes->until, lanes->buffer_count, 0);
  for (int b = 0; b < lanes->buffer_count; b++) {
    lanes->first.at[b] = b;
    lanes->until.at[b] = most(lanes->buffers[b].made, lanes->buffers[b].read);
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
  size_t room = (size_t)lanes->buffer_count + 1, count = 0;
  s->lives = resized(s, s->lives, room * (2 * sizeof(Life) + sizeof(int)));
  Life *lives = s->lives, *sorted = lives + room;
  int *beside = (int *)(sorted + room);
  for (int b = 0; b < lanes->buffer_count; b++) {
    Buffer one = lanes->buffers[b];
    Bytes nbytes = p->nbytes[one.of];
    if (one.fixed || lanes->first.at[b] != b || nbytes < large_bytes) continue;
    lives[count++] = (Life){b, one.made, lanes->until.at[b], nbytes, 0};
  }
  qsort(lives, count, sizeof(Life), by_bytes);
  Bytes top = placed_bytes(lives, (int)count, sorted, beside);
  Bytes alive = most_alive(s, lives, (int)count);
  if (top == alive) return 0; /* No other order is better. */
  qsort(lives, count, sizeof(Life), by_life);
  Bytes other = placed_bytes(lives, (int)count, sorted, beside);
  return (top < other ? top : other) - alive;
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
