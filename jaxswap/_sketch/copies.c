/* Order and actions -> gaps and copies: `_schedule/by_clock.py`. */

enum { COPIES_IN_FLIGHT = 2 };

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
    double start = s->clock.starts[s->order.heavy.at[middle]];
    if (start < second || (is_after && start == second)) low = middle + 1;
    else high = middle;
  }
  return low;
}

/* Return the entry that waits for a copy to the host, which ends at `end`. */
static int leave(Space *s, int g, double end, Bytes nbytes, Bytes limit) {
  Order *order = &s->order;
  Clock *clock = &s->clock;
  const int *heavy = order->heavy.at, *before = order->heavy_before.at;
  int low = before[s->copies.left.at[g] + 1];
  int first = heavy[low], place = heavy_from(s, end, 0);
  place = least(most(place, low), most(low, before[s->copies.use.at[g]] - 1));
  int at = heavy[place];
  for (int i = first; i < at; i++)
    if (clock->used[i] + nbytes > limit) {
      /* Wait before the excess: at the last heavy entry up to there. */
      at = most(first, heavy[before[i + 1] - 1]);
      break;
    }
  double stall = end - clock->starts[at];
  if (stall > 0)
    for (int i = at; i < order->template_of.count; i++) {
      clock->starts[i] += stall;
      clock->ends[i] += stall;
    }
  for (int i = first; i < at; i++) clock->used[i] += nbytes;
  return at;
}

/* Return the last uncrowded heavy entry in floor to last to begin by `begin`. */
static int gate_of(Space *s, double begin, int floor, int last) {
  const int *heavy = s->order.heavy.at, *before = s->order.heavy_before.at;
  const int *started = s->clock.started;
  int low = before[floor], high = before[last + 1];
  int at = least(most(heavy_from(s, begin, 1) - 1, low), high - 1), wished = at;
  while (at > low && started[heavy[at]] >= COPIES_IN_FLIGHT) at--;
  return heavy[started[heavy[at]] >= COPIES_IN_FLIGHT ? wished : at];
}

/* Return the entry at which a copy to the device may start. */
static int come_back(Space *s, int g, int floor, Bytes limit, double *busy, int eager) {
  Order *order = &s->order;
  Clock *clock = &s->clock;
  const int *heavy = order->heavy.at, *before = order->heavy_before.at;
  int v = s->copies.value.at[s->copies.swap.at[g]], use = s->copies.use.at[g];
  Bytes nbytes = s->program.nbytes[v], highest = 0;
  if (!before[use] || floor == NONE || heavy[before[use] - 1] < floor) return NONE;
  int last = heavy[before[use] - 1];
  double due = clock->starts[eager ? last : use];
  double begin = (*busy < due ? *busy : due) - s->program.back_seconds[v];
  int gate = gate_of(s, begin, floor, last);
  for (int i = last - 1; i >= gate; i--)
    if (clock->used[i] + nbytes > limit) {
      int after = before[i + 1];
      gate = after < order->heavy.count ? heavy[after] : last;
      break;
    }
  for (int i = last; i < use; i++)
    if (clock->used[i] > highest) highest = clock->used[i];
  if (highest > limit) {
    for (int i = last; i < use; i++) clock->used[i] -= nbytes;
    *busy = clock->starts[use];
    return NONE;
  }
  clock->started[gate]++;
  for (int i = gate; i < last; i++) clock->used[i] += nbytes;
  *busy = later(begin, clock->starts[gate]);
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
  for (int k = 0; k < copies->value.count; k++) { /* as they are made */
    int v = copies->value.at[k];
    out_free = later(out_free, s->clock.ends[s->order.made[v]]) + p->out_seconds[v];
    copies->free_at.at[k] =
        leave(s, copies->start.at[k], out_free, p->nbytes[v], limit);
  }
  sort_by_use(s);
  for (int at = 0; at < s->order.template_of.count; at++) s->clock.started[at] = 0;
  for (int i = 0; i < copies->left.count; i++) {
    int g = s->by_use.at[i], k = copies->swap.at[g], v = copies->value.at[k];
    int is_first = g == copies->start.at[k], is_eager = eager && eager[v];
    int floor = is_first ? copies->free_at.at[k] : copies->left.at[g];
    int gate = come_back(s, g, floor, limit, &in_busy, is_eager);
    copies->gate.at[g] = gate;
    copies->done_at.at[g] = NONE;
    if (is_eager && gate != NONE) {
      int last = s->order.heavy.at[s->order.heavy_before.at[copies->use.at[g]] - 1];
      if (gate < last) copies->done_at.at[g] = last;
    }
  }
}
