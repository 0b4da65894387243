/* Order and timing -> copies by a policy's distances: `_schedule/by_distance.py`. */

static const double COPY_FLOPS_PER_BYTE = 250.0;

/* As `Timing` in `_schedule/timing.py`. */
typedef struct {
  int is_level, swapout_threshold, swapin_ahead, swapin_groupby;
  int sync_swapout, sync_swapin, copies_in_flight, is_forced;
} Timing;

/* Return how many of the ascending numbers are less than `limit`. */
static int below(const List *numbers, int limit) {
  int low = 0, high = numbers->count;
  while (low < high) {
    int middle = (low + high) / 2;
    if (numbers->at[middle] < limit) low = middle + 1;
    else high = middle;
  }
  return low;
}

static int by_size(const void *one, const void *other) {
  double a = *(const double *)one, b = *(const double *)other;
  return (a > b) - (a < b);
}

/* Note the median of the operations of heavy entries. */
static void find_typical(Space *s) {
  Distances *d = &s->distances;
  int count = s->order.heavy.count;
  d->typical_flops = 0.0;
  d->least_flops = -1.0; /* Nothing is listed yet. */
  if (!count) return;
  d->flops = resized(s, d->flops, sizeof(double) * (size_t)count);
  for (int i = 0; i < count; i++)
    d->flops[i] = s->program.flops[equation_of(s, s->order.heavy.at[i])];
  qsort(d->flops, (size_t)count, sizeof(double), by_size);
  double upper = d->flops[count / 2];
  d->typical_flops = count % 2 ? upper : (d->flops[count / 2 - 1] + upper) / 2;
}

/* Note the longest-path level of each entry. */
static void find_levels(Space *s) {
  Distances *d = &s->distances;
  Templates *found = &s->templates;
  int count = s->order.template_of.count, reached = 0, *level_of = s->needed;
  fill(s, &d->levels, count, 0);
  memset(level_of, 0, sizeof(int) * (size_t)s->program.values);
  for (int at = 0; at < count; at++) {
    int t = s->order.template_of.at[at], level = 0;
    for (int i = found->read_start[t]; i < found->read_end[t]; i++)
      level = most(level, level_of[found->reads.at[i]]);
    level++;
    if (is_recomputed(s, at)) level = most(level, reached);
    else if (is_behind(s, at)) reached = most(level, reached);
    d->levels.at[at] = level;
    for (int i = found->make_start[t]; i < found->make_end[t]; i++)
      level_of[found->makes.at[i]] = level;
  }
}

/* List the heavy entries that are long enough to hide a copy. */
static void find_covers(Space *s, Bytes nbytes) {
  Distances *d = &s->distances;
  double least_flops = COPY_FLOPS_PER_BYTE * (double)nbytes;
  if (d->typical_flops < least_flops) least_flops = d->typical_flops;
  if (d->least_flops == least_flops) return; /* those of the value before */
  d->least_flops = least_flops;
  d->covers.count = 0;
  for (int i = 0; i < s->order.heavy.count; i++) {
    int at = s->order.heavy.at[i];
    if (s->program.flops[equation_of(s, at)] >= least_flops) push(s, &d->covers, at);
  }
}

static int distance(const Space *s, int start, int end, const Timing *timing) {
  const Distances *d = &s->distances;
  if (timing->is_level) return d->levels.at[end] - d->levels.at[start];
  return below(&d->covers, end) - below(&d->covers, start + 1);
}

/* Return the heavy entry that waits for the copy to the host. */
static int free_after(const Space *s, int made, int last, const Timing *timing) {
  const Distances *d = &s->distances;
  const Order *order = &s->order;
  if (!timing->sync_swapout) {
    int cover = below(&d->covers, made + 1);
    if (cover == d->covers.count) return NONE;
    last = most(last, d->covers.at[cover]);
  }
  int after = order->heavy_before.at[last + 1];
  return after < order->heavy.count ? order->heavy.at[after] : NONE;
}

/* Return the heavy entry before which the copy for `use` starts. */
static int gate_before(const Space *s, int use, const Timing *timing) {
  const Distances *d = &s->distances;
  const Order *order = &s->order;
  if (timing->sync_swapin) return NONE;
  if (timing->is_level) {
    for (int i = order->heavy_before.at[use] - 1; i >= 0; i--)
      if (distance(s, order->heavy.at[i], use, timing) >= timing->swapin_ahead)
        return order->heavy.at[i];
    return NONE;
  }
  int before = below(&d->covers, use);
  if (before < timing->swapin_ahead) return NONE;
  return d->covers.at[before - timing->swapin_ahead];
}

static void add_return(Space *s, int left, int gate, int use) {
  Copies *copies = &s->copies;
  push(s, &copies->left, left);
  push(s, &copies->use, use);
  push(s, &copies->swap, copies->value.count);
  push(s, &copies->gate, gate);
  push(s, &copies->done_at, NONE);
}

static void add_swap(Space *s, int v, int free_at) {
  push(s, &s->copies.value, v);
  push(s, &s->copies.free_at, free_at);
  push(s, &s->copies.start, s->copies.left.count);
}

/* Copy a value back for a group of uses, if a heavy entry runs while it is away. Return
   the entry that waits for its copy to the host. */
static int serve(Space *s, int made, int last, int use, int free_at, int is_first,
                 const Timing *timing) {
  const int *before = s->order.heavy_before.at;
  int gate = gate_before(s, use, timing);
  int start = is_first ? free_after(s, made, last, timing) : last;
  int end = timing->sync_swapin ? use : gate;
  if (start == NONE || end == NONE || before[start] >= before[end]) return free_at;
  add_return(s, last, gate, use);
  return is_first ? start : free_at;
}

/* Lay out the swap of one value: its uses form groups, each with one copy back. */
static void swap_by_distance(Space *s, int v, const Timing *timing) {
  Order *order = &s->order;
  Copies *copies = &s->copies;
  int made = order->made[v], end = order->use_start.at[v + 1], first = NONE;
  if (made == NONE) return;
  find_covers(s, s->program.nbytes[v]);
  int begin = copies->left.count, last = made, previous = made, free_at = NONE;
  for (int i = order->use_start.at[v]; i < end; i++) {
    int use = order->uses.at[i], is_near = first == NONE;
    if (use <= made) continue;
    int start = is_near && timing->is_level ? made : previous;
    int limit = is_near ? timing->swapout_threshold : timing->swapin_groupby;
    if (distance(s, start, use, timing) > limit) {
      if (!is_near)
        free_at = serve(s, made, last, first, free_at, copies->left.count == begin,
                        timing);
      last = previous, first = use;
    }
    previous = use;
  }
  if (first != NONE)
    free_at = serve(s, made, last, first, free_at, copies->left.count == begin, timing);
  for (int i = order->use_start.at[v];
       i < end && timing->is_forced && copies->left.count == begin; i++) {
    int use = order->uses.at[i];
    if (use > made && is_behind(s, use) && !is_behind(s, made))
      add_return(s, made, NONE, use);
  }
  if (copies->left.count > begin) add_swap(s, v, free_at);
}

/* Return the last gate up to `gate` at which one more copy may start. */
static int free_gate(const Space *s, int gate, int floor, const Timing *timing) {
  const List *covers = &s->distances.covers;
  const int *started = s->distances.started.at;
  int low = below(covers, floor + 1), high = below(covers, gate);
  if (started[gate] < timing->copies_in_flight) return gate;
  for (int i = high - 1; i >= low; i--)
    if (started[covers->at[i]] < timing->copies_in_flight) return covers->at[i];
  return gate;
}

/* Return the last use that a copy serves. */
static int last_use_served(const Space *s, int k, int g) {
  const Copies *copies = &s->copies;
  const Order *order = &s->order;
  int v = copies->value.at[k], found = NONE;
  int end = g + 1 < copies->start.at[k + 1] ? copies->use.at[g + 1]
                                            : order->template_of.count;
  for (int i = order->use_start.at[v]; i < order->use_start.at[v + 1]; i++)
    if (order->uses.at[i] < end) found = order->uses.at[i];
  return found;
}

/* Start the copies of one swap earlier where too many start at once. */
static void spread_swap(Space *s, int k, const Timing *timing) {
  Copies *copies = &s->copies;
  int v = copies->value.at[k], floor = copies->free_at.at[k];
  find_covers(s, s->program.nbytes[v]);
  if (floor == NONE) floor = s->order.made[v];
  for (int g = copies->start.at[k]; g < copies->start.at[k + 1]; g++) {
    int wished = copies->gate.at[g];
    if (wished != NONE) {
      int gate = free_gate(s, wished, floor, timing);
      s->distances.started.at[gate]++;
      copies->gate.at[g] = gate;
      copies->done_at.at[g] = gate < wished ? wished : NONE;
    }
    floor = last_use_served(s, k, g);
  }
}

/* Start some copies earlier if too many would run behind one entry: those of the largest
   values stay. */
static void spread(Space *s, const Timing *timing) {
  Copies *copies = &s->copies;
  Distances *d = &s->distances;
  const Bytes *nbytes = s->program.nbytes;
  int count = copies->value.count;
  fill(s, &d->started, s->order.template_of.count, 0);
  fill(s, &d->largest_first, count, 0);
  for (int k = 0; k < count; k++) {
    int free_at = copies->free_at.at[k], place = k;
    int before = free_at == NONE ? 0 : s->order.heavy_before.at[free_at];
    if (before) d->started.at[s->order.heavy.at[before - 1]]++;
    Bytes size = nbytes[copies->value.at[k]];
    for (; place && nbytes[copies->value.at[d->largest_first.at[place - 1]]] < size;
         place--)
      d->largest_first.at[place] = d->largest_first.at[place - 1];
    d->largest_first.at[place] = k;
  }
  for (int i = 0; i < count; i++) spread_swap(s, d->largest_first.at[i], timing);
}

/* Lay out the swaps of some values. */
static void swaps_by_distance(Space *s, const int *leaving, int count,
                              const Timing *timing) {
  Copies *copies = &s->copies;
  List *lists[] = {&copies->value, &copies->start, &copies->free_at, &copies->left,
                   &copies->use, &copies->swap, &copies->gate, &copies->done_at};
  for (int i = 0; i < 8; i++) lists[i]->count = 0;
  push(s, &copies->start, 0);
  find_typical(s);
  if (timing->is_level) find_levels(s);
  for (int i = 0; i < count; i++) swap_by_distance(s, leaving[i], timing);
  spread(s, timing);
}
