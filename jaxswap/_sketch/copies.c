/* Order and actions -> gaps and copies: `_schedule/by_clock.py`. */

enum { COPIES_IN_FLIGHT = 2 };

static inline int value_of_gap(const Space *s, int g) {
  return s->copies.value.at[s->copies.swap.at[g]];
}

static void absences_of(Space *s, int v, double patient) {
  Order *order = &s->order;
  Copies *copies = &s->copies;
  const int *before = order->heavy_before.at;
  const double *starts = s->clock.starts;
  double longest = -1.0;
  int longest_left = NONE, longest_use = NONE, first = copies->left.count;
  for (int is_second = 0; is_second < 2; is_second++) {
    int left = order->made[v];
    for (int i = order->use_start.at[v]; i < order->use_start.at[v + 1]; i++) {
      int use = order->uses.at[i];
      if (use <= order->made[v]) continue;
      double length = starts[use] - starts[left];
      if (before[use] > before[left + 1]) {
        int is_longest = left == longest_left && use == longest_use;
        if (!is_second && length > longest) {
          longest = length, longest_left = left, longest_use = use;
        } else if (is_second && (is_longest || length >= patient)) {
          push(s, &copies->left, left);
          push(s, &copies->use, use);
          push(s, &copies->swap, copies->value.count);
        }
      }
      left = use;
    }
  }
  if (copies->left.count > first) {
    push(s, &copies->value, v);
    push(s, &copies->start, copies->left.count);
  }
}

/* Choose the gaps that values spend on the host. */
static void absences(Space *s, const signed char *actions, double patience) {
  const Program *p = &s->program;
  Templates *found = &s->templates;
  Copies *copies = &s->copies;
  copies->value.count = copies->start.count = 0;
  copies->left.count = copies->use.count = copies->swap.count = 0;
  push(s, &copies->start, 0);
  for (int at = 0; at < s->order.template_of.count; at++) {
    int t = s->order.template_of.at[at];
    for (int i = found->make_start[t]; i < found->make_end[t]; i++) {
      int v = found->makes.at[i];
      if (actions[v] == OFFLOAD && s->order.made[v] == at)
        absences_of(s, v, patience * (p->out_seconds[v] + p->back_seconds[v]));
    }
  }
  fill(s, &copies->free_at, copies->value.count, NONE);
  fill(s, &copies->gate, copies->left.count, NONE);
  fill(s, &copies->done_at, copies->left.count, NONE);
}

/* Keep values away for as long as possible. */
static void tight(Space *s) {
  Order *order = &s->order;
  Copies *copies = &s->copies;
  const int *before = order->heavy_before.at;
  for (int k = 0; k < copies->value.count; k++) {
    int after = before[copies->left.at[copies->start.at[k]] + 1];
    if (after < order->heavy.count) copies->free_at.at[k] = order->heavy.at[after];
  }
  for (int g = 0; g < copies->left.count; g++) {
    int first = before[copies->use.at[g]];
    if (first) copies->gate.at[g] = order->heavy.at[first - 1];
  }
}

/* Return the first heavy entry that begins at a second, or only after it. */
static int heavy_from(const Space *s, double second, int is_after) {
  int low = 0, high = s->order.heavy.count;
  while (low < high) {
    int middle = (low + high) / 2;
    double start = s->clock.heavy_starts[middle];
    if (start < second || (is_after && start == second)) low = middle + 1;
    else high = middle;
  }
  return low;
}

/* Note of all times those that copies ask for: few entries are heavy. */
static void pick_times(Space *s) {
  Clock *clock = &s->clock;
  const Copies *copies = &s->copies;
  size_t uses = (size_t)copies->left.count, swaps = (size_t)copies->value.count;
  clock->use_starts = resized(s, clock->use_starts, uses * sizeof(double));
  clock->made_ends = resized(s, clock->made_ends, swaps * sizeof(double));
  for (int i = 0; i < s->order.heavy.count; i++)
    clock->heavy_starts[i] = clock->starts[s->order.heavy.at[i]];
  for (int i = 0; i < copies->left.count; i++)
    clock->use_starts[i] = clock->starts[copies->use.at[s->by_use.at[i]]];
  for (int k = 0; k < copies->value.count; k++)
    clock->made_ends[k] = clock->ends[s->order.made[copies->value.at[k]]];
}

/* Let a heavy entry and all behind it start later. Of the swaps, those behind swap k. */
static void delay(Space *s, int place, double stall, int k) {
  Clock *clock = &s->clock;
  const Copies *copies = &s->copies;
  int at = s->order.heavy.at[place];
  for (int i = place; i < s->order.heavy.count; i++) clock->heavy_starts[i] += stall;
  for (int i = 0; i < copies->left.count; i++) { /* the last uses come first */
    if (copies->use.at[s->by_use.at[i]] < at) break;
    clock->use_starts[i] += stall;
  }
  for (int j = copies->value.count - 1; j > k; j--) {
    if (s->order.made[copies->value.at[j]] < at) break;
    clock->made_ends[j] += stall;
  }
}

/* Return the entry that waits for the copy of swap k to the host, which ends at `end`. */
static int leave(Space *s, int k, double end, Bytes limit) {
  Order *order = &s->order;
  Clock *clock = &s->clock;
  const int *heavy = order->heavy.at, *before = order->heavy_before.at;
  int g = s->copies.start.at[k], low = before[s->copies.left.at[g] + 1];
  Bytes nbytes = s->program.nbytes[s->copies.value.at[k]];
  int first = heavy[low], place = heavy_from(s, end, 0);
  place = least(most(place, low), most(low, before[s->copies.use.at[g]] - 1));
  int at = heavy[place];
  for (int i = first; i < at; i++)
    if (clock->used[i] + nbytes > limit) {
      /* Wait before the excess: at the last heavy entry up to there. */
      place = most(low, before[i + 1] - 1);
      at = heavy[place];
      break;
    }
  double stall = end - clock->heavy_starts[place];
  if (stall > 0) delay(s, place, stall, k);
  for (int i = first; i < at; i++) clock->used[i] += nbytes;
  return at;
}

/* Return which heavy entry is the last uncrowded one in floor to last to begin by
   `begin`. */
static int gate_of(Space *s, double begin, int floor, int last) {
  const int *heavy = s->order.heavy.at, *before = s->order.heavy_before.at;
  const int *started = s->clock.started;
  int low = before[floor], high = before[last + 1];
  int at = least(most(heavy_from(s, begin, 1) - 1, low), high - 1), wished = at;
  while (at > low && started[heavy[at]] >= COPIES_IN_FLIGHT) at--;
  return started[heavy[at]] >= COPIES_IN_FLIGHT ? wished : at;
}

/* Return the entry at which the i-th copy to the device, from behind, may start. */
static int come_back(Space *s, int i, int floor, Bytes limit, double *busy, int eager) {
  Order *order = &s->order;
  Clock *clock = &s->clock;
  const int *heavy = order->heavy.at, *before = order->heavy_before.at;
  int g = s->by_use.at[i], v = value_of_gap(s, g), use = s->copies.use.at[g];
  Bytes nbytes = s->program.nbytes[v], highest = 0;
  if (!before[use] || floor == NONE || heavy[before[use] - 1] < floor) return NONE;
  int place = before[use] - 1, last = heavy[place];
  double due = eager ? clock->heavy_starts[place] : clock->use_starts[i];
  double begin = (*busy < due ? *busy : due) - s->program.back_seconds[v];
  place = gate_of(s, begin, floor, last);
  for (int at = last - 1; at >= heavy[place]; at--)
    if (clock->used[at] + nbytes > limit) {
      place = before[at + 1];
      break;
    }
  for (int at = last; at < use; at++)
    if (clock->used[at] > highest) highest = clock->used[at];
  if (highest > limit) {
    for (int at = last; at < use; at++) clock->used[at] -= nbytes;
    *busy = clock->use_starts[i];
    return NONE;
  }
  int gate = heavy[place];
  clock->started[gate]++;
  for (int at = gate; at < last; at++) clock->used[at] += nbytes;
  *busy = later(begin, clock->heavy_starts[place]);
  return gate;
}

/* Order the gaps, those with the last use first. */
static void sort_by_use(Space *s) {
  Copies *copies = &s->copies;
  int count = s->order.template_of.count, total = 0;
  fill(s, &s->first_of_use, count, 0);
  fill(s, &s->by_use, copies->left.count, 0);
  for (int g = 0; g < copies->left.count; g++)
    s->first_of_use.at[copies->use.at[g]]++;
  for (int at = count - 1; at >= 0; at--) {
    int here = s->first_of_use.at[at];
    s->first_of_use.at[at] = total;
    total += here;
  }
  for (int g = 0; g < copies->left.count; g++)
    s->by_use.at[s->first_of_use.at[copies->use.at[g]]++] = g;
}

/* Place copies so that computation waits as little as possible. */
static void place(Space *s, Bytes limit, const signed char *eager) {
  const Program *p = &s->program;
  Copies *copies = &s->copies;
  double out_free = 0.0, in_busy = 1e300;
  sort_by_use(s);
  pick_times(s);
  for (int k = 0; k < copies->value.count; k++) { /* as they are made */
    int v = copies->value.at[k];
    out_free = later(out_free, s->clock.made_ends[k]) + p->out_seconds[v];
    copies->free_at.at[k] = leave(s, k, out_free, limit);
  }
  for (int at = 0; at < s->order.template_of.count; at++) s->clock.started[at] = 0;
  for (int i = 0; i < copies->left.count; i++) {
    int g = s->by_use.at[i], k = copies->swap.at[g], v = copies->value.at[k];
    int is_first = g == copies->start.at[k], is_eager = eager && eager[v];
    int floor = is_first ? copies->free_at.at[k] : copies->left.at[g];
    int gate = come_back(s, i, floor, limit, &in_busy, is_eager);
    copies->gate.at[g] = gate;
    copies->done_at.at[g] = NONE;
    if (is_eager && gate != NONE) {
      int last = s->order.heavy.at[s->order.heavy_before.at[copies->use.at[g]] - 1];
      if (gate < last) copies->done_at.at[g] = last;
    }
  }
}
