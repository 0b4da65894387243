/* Entries and copies -> seconds and bytes: `_simulate/kernels.py` and `simulate.py`. */

enum { FAMILY = 8, LOOP_LAUNCHES = 5 };

static void set_one(Space *s, Sets *sets, int v, int member) {
  sets->start[v] = sets->pool.count;
  sets->length[v] = 1;
  push(s, &sets->pool, member);
}

static inline int is_marked(Space *s, Sets *sets, int member) {
  while (sets->mark.count <= member) push(s, &sets->mark, 0);
  return sets->mark.at[member] == sets->stamp;
}

/* Find the union of the sets of what an equation reads. */
static void unite(Space *s, Sets *sets, int e, int *start, int *length) {
  const Program *p = &s->program;
  int is_own = 0;
  *start = *length = 0;
  for (int i = p->in_start[e]; i < p->in_start[e + 1]; i++) {
    int v = p->inputs[i], more = sets->start[v], count = sets->length[v];
    if (!count || (more == *start && count == *length)) continue;
    if (!*length) {
      *start = more, *length = count;
      continue;
    }
    if (!is_own) {
      int old = *start;
      is_own = 1;
      sets->stamp++;
      *start = sets->pool.count;
      for (int r = 0; r < *length; r++) {
        int member = sets->pool.at[old + r];
        is_marked(s, sets, member);
        sets->mark.at[member] = sets->stamp;
        push(s, &sets->pool, member);
      }
    }
    for (int r = more; r < more + count; r++) {
      int member = sets->pool.at[r];
      if (is_marked(s, sets, member)) continue;
      sets->mark.at[member] = sets->stamp;
      push(s, &sets->pool, member);
      ++*length;
    }
  }
}

static int is_within(Space *s, Sets *sets, int start, int length, int other, int count) {
  int found = 0;
  if (length > count) return 0;
  sets->stamp++;
  for (int r = start; r < start + length; r++) {
    is_marked(s, sets, sets->pool.at[r]);
    sets->mark.at[sets->pool.at[r]] = sets->stamp;
  }
  for (int r = other; r < other + count; r++)
    found += is_marked(s, sets, sets->pool.at[r]);
  return found == length;
}

static int begin_step(Space *s, int at, double seconds) {
  Lanes *lanes = &s->lanes;
  int step = lanes->entry.count;
  push(s, &lanes->entry, at);
  if (step + 2 > lanes->step_room) {
    size_t room = lanes->step_room = 2 * step + 64;
    lanes->seconds = resized(s, lanes->seconds, room * sizeof(double));
    lanes->bytes_at = resized(s, lanes->bytes_at, room * sizeof(Bytes));
  }
  lanes->seconds[step] = seconds;
  lanes->bytes_at[step] = 0;
  return step;
}

static int new_buffer(Space *s, int v, int step) {
  Lanes *lanes = &s->lanes;
  int b = lanes->of.count;
  lanes->in_parts[v] = 1;
  lanes->content[v] = b;
  push(s, &lanes->of, v);
  push(s, &lanes->made, step);
  push(s, &lanes->read, step);
  push(s, &lanes->fixed, lanes->unmade[v] != 0);
  if (b == lanes->arrival_room) {
    lanes->arrival_room = 2 * b + 64;
    lanes->arrival =
        resized(s, lanes->arrival, sizeof(double) * (size_t)lanes->arrival_room);
  }
  lanes->arrival[b] = 0.0;
  lanes->unmade[v] = 0;
  set_one(s, &lanes->roots, v, b);
  lanes->given.length[v] = 0;
  return b;
}

/* Whether a value is made, where it is read, of a buffer of so many bytes. */
static int is_cut_from(const Space *s, int v, Bytes nbytes) {
  const Sets *roots = &s->lanes.roots;
  for (int r = roots->start[v]; r < roots->start[v] + roots->length[v]; r++)
    if (s->program.nbytes[s->lanes.of.at[roots->pool.at[r]]] >= nbytes) return 1;
  return 0;
}

/* Whether parts of an equation's result follow from parts of values in memory. */
static int is_in_parts(const Space *s, int e) {
  const Program *p = &s->program;
  if (!(p->kind[e] & IN_PARTS)) return 0;
  int made = p->outputs[p->out_start[e]];
  for (int i = p->in_start[e]; i < p->in_start[e + 1]; i++) {
    int v = p->inputs[i], is_whole = p->shape[v] != p->shape[made];
    if (is_whole ? is_cut_from(s, v, p->nbytes[made]) : !s->lanes.in_parts[v]) return 0;
  }
  return 1;
}

/* Note the buffers whose place the result of a run may take, those of its type. */
static void may_replace(Space *s, int v, int start, int length, int run) {
  const Program *p = &s->program;
  Lanes *lanes = &s->lanes;
  Sets *roots = &lanes->roots;
  if (p->nbytes[v] < p->in_place_bytes) return;
  for (int i = start; i < start + length; i++) {
    int r = roots->pool.at[i], u = lanes->of.at[r];
    if (lanes->content[u] != r || p->type[u] != p->type[v]) continue;
    push(s, &lanes->made_over, lanes->of.count); /* the buffer that is made next */
    push(s, &lanes->over_of, r);
    push(s, &lanes->by_run, run);
  }
}

/* Give the results of an equation the bytes of its operands. */
static void run_alias(Space *s, int e) {
  const Program *p = &s->program;
  Lanes *lanes = &s->lanes;
  Sets *roots = &lanes->roots, *given = &lanes->given;
  int i = p->in_start[e], is_parts = is_in_parts(s, e);
  for (int o = p->out_start[e]; o < p->out_start[e + 1]; o++, i++) {
    if (i == p->in_start[e + 1]) break;
    int v = p->outputs[o], source = p->inputs[i];
    lanes->content[v] = p->type[v] == p->type[source] ? lanes->content[source] : NONE;
    lanes->in_parts[v] = is_parts || lanes->content[v] != NONE;
    roots->start[v] = roots->start[source], roots->length[v] = roots->length[source];
    given->start[v] = given->start[source], given->length[v] = given->length[source];
    if (!lanes->unmade[v]) continue;
    lanes->unmade[v] = 0;
    for (int r = roots->start[v]; r < roots->start[v] + roots->length[v]; r++)
      lanes->fixed.at[roots->pool.at[r]] = 1;
  }
}

/* Whether a cheap kernel is fused with one before it that reads the same. */
static int joins_family(Space *s, int start, int length) {
  List *family = &s->lanes.family;
  int count = family->count / 2, first = count > FAMILY ? count - FAMILY : 0;
  for (int i = count - 1; length && i >= first; i--)
    if (is_within(s, &s->lanes.roots, start, length, family->at[2 * i],
                  family->at[2 * i + 1]))
      return 1;
  push(s, family, start);
  push(s, family, length);
  return 0;
}

/* Return the seconds of a kernel: the longer of its arithmetic and its bytes. */
static double kernel_seconds(const Program *p, int e, Bytes read, int is_shared,
                             int is_loop) {
  double loop = is_loop ? LOOP_LAUNCHES * p->launch_seconds : 0.0;
  if (p->fixed_seconds[e] >= 0) return p->fixed_seconds[e];
  if (is_shared) return (double)p->made_bytes[e] / p->bytes_per_second[e] + loop;
  double moved = later((double)(read + p->made_bytes[e]), p->moved_bytes[e]);
  double alone = later(moved / p->bytes_per_second[e], p->base_seconds[e]);
  return p->launch_seconds + alone + loop;
}

/* Note the operands that an equation's results take the place of. */
static void make_way(Space *s, int e, int step) {
  const Program *p = &s->program;
  Lanes *lanes = &s->lanes;
  Sets *roots = &lanes->roots;
  for (int i = p->over_start[e]; i < p->over_start[e + 1]; i++) {
    int v = p->overwritten[i];
    for (int r = roots->start[v]; r < roots->start[v] + roots->length[v]; r++) {
      int b = roots->pool.at[r];
      if (p->nbytes[lanes->of.at[b]] != p->nbytes[v]) continue;
      push(s, &lanes->over, b);
      push(s, &lanes->over_step, step);
    }
  }
}

/* Execute an equation. It is a kernel unless it is fused into what reads it. */
static void run_equation(Space *s, int e, int at) {
  const Program *p = &s->program;
  Lanes *lanes = &s->lanes;
  Sets *roots = &lanes->roots, *given = &lanes->given;
  int start, length, given_start, given_length, is_stored = 0, is_shared = 0;
  int run = lanes->runs++, is_parts;
  int bit = is_behind(s, at) ? 2 : 1, is_again = bit == 2 && !(p->kind[e] & BACKWARD);
  if (p->kind[e] & ALIAS) {
    run_alias(s, e);
    return;
  }
  is_parts = is_in_parts(s, e);
  unite(s, roots, e, &start, &length);
  unite(s, given, e, &given_start, &given_length);
  for (int i = p->out_start[e]; i < p->out_start[e + 1]; i++)
    is_stored |= lanes->is_buffer[p->outputs[i]] & bit;
  if (p->kind[e] & FUSIBLE && !is_stored) {
    for (int i = p->out_start[e]; i < p->out_start[e + 1]; i++) {
      int v = p->outputs[i];
      roots->start[v] = start, roots->length[v] = length;
      given->start[v] = given_start, given->length[v] = given_length;
      lanes->in_parts[v] = is_parts;
      lanes->content[v] = NONE;
    }
    return;
  }
  if (p->kind[e] & HEAVY) lanes->family.count = 0;
  if (p->kind[e] & CHEAP) is_shared = joins_family(s, start, length);
  Bytes read = 0;
  double ready = 0.0;
  for (int r = given_start; r < given_start + given_length; r++)
    read += p->nbytes[given->pool.at[r]];
  int step = begin_step(s, at, 0.0);
  for (int r = start; r < start + length; r++) {
    int b = roots->pool.at[r];
    read += p->nbytes[lanes->of.at[b]];
    lanes->read.at[b] = step;
    ready = later(ready, lanes->arrival[b]);
  }
  make_way(s, e, step);
  if (is_parts) may_replace(s, p->outputs[p->out_start[e]], start, length, run);
  int is_loop = run < lanes->is_in_place.count && lanes->is_in_place.at[run];
  double seconds = kernel_seconds(p, e, read, is_shared, is_loop), begin = lanes->clock;
  if (ready > begin) {
    for (int r = start; r < start + length; r++)
      lanes->cost[lanes->of.at[roots->pool.at[r]]] += ready - begin;
    begin = ready;
  }
  lanes->clock = begin + seconds;
  lanes->seconds[step] = seconds;
  lanes->bytes_at[step] = p->inside_bytes[e];
  for (int i = p->out_start[e]; i < p->out_start[e + 1]; i++) {
    int b = new_buffer(s, p->outputs[i], step);
    if (is_again) lanes->cost[p->outputs[i]] += seconds;
    if (!(p->kind[e] & CHEAP) || p->kind[e] & (HEAVY | REDUCTION)) continue;
    for (int r = start; r < start + length; r++) {
      push(s, &lanes->writes, b);
      push(s, &lanes->written, roots->pool.at[r]);
    }
  }
}

/* Return the seconds of a copy while the other lane is busy for `overlap`. */
static double beside(double alone, double overlap, double share) {
  if (overlap <= 0) return alone;
  if (alone <= overlap * share) return alone / share;
  return overlap + alone - overlap * share;
}

static void await(Space *s, int v, double *ready, int *is_any) {
  Lanes *lanes = &s->lanes;
  if (!lanes->in_flight[v]) return;
  *ready = later(*ready, lanes->at_host[v]);
  *is_any = 1;
  lanes->in_flight[v] = 0;
  lanes->awaited[v] = lanes->entry.count;
}

/* Wait for copies to the host: for one list of swaps and one of gaps. */
static void wait_for(Space *s, int swap, int gap, int at) {
  double ready = 0.0;
  int is_any = 0;
  for (int k = swap; k != NONE; k = s->places.wait_next.at[k])
    await(s, s->copies.value.at[k], &ready, &is_any);
  for (int g = gap; g != NONE; g = s->places.back_next.at[g])
    await(s, value_of_gap(s, g), &ready, &is_any);
  if (!is_any) return;
  begin_step(s, at, 0.0);
  s->lanes.clock = later(s->lanes.clock, ready);
}

static void swap_in(Space *s, int first, int at) {
  const Program *p = &s->program;
  Lanes *lanes = &s->lanes;
  for (int g = first; g != NONE; g = s->places.back_next.at[g]) {
    int v = value_of_gap(s, g), step = begin_step(s, at, p->launch_seconds);
    int b = new_buffer(s, v, step);
    lanes->clock += p->launch_seconds;
    double begin = later(later(lanes->clock, lanes->back_lane), lanes->at_host[v]);
    double overlap = lanes->out_lane - begin;
    lanes->back_lane = begin + beside(p->back_seconds[v], overlap, p->back_share);
    lanes->arrival[b] = lanes->back_lane;
    lanes->moved[v] = step;
  }
}

static void swap_out(Space *s, int at) {
  const Program *p = &s->program;
  Lanes *lanes = &s->lanes;
  Sets *roots = &lanes->roots;
  int next = least(at + 1, s->order.template_of.count - 1);
  for (int k = s->places.leave.at[at]; k != NONE; k = s->places.leave_next.at[k]) {
    int v = s->copies.value.at[k], step = begin_step(s, next, p->launch_seconds);
    int buffer = NONE;
    for (int r = roots->start[v]; r < roots->start[v] + roots->length[v]; r++)
      buffer = most(buffer, roots->pool.at[r]);
    if (buffer != NONE) lanes->read.at[buffer] = step;
    lanes->clock += p->launch_seconds;
    double begin = later(lanes->clock, lanes->out_lane);
    double overlap = lanes->back_lane - begin;
    lanes->out_lane = begin + beside(p->out_seconds[v], overlap, p->out_share);
    lanes->at_host[v] = lanes->out_lane;
    lanes->in_flight[v] = 1;
    lanes->sent[v] = lanes->moved[v] = step;
    lanes->sent_buffer[v] = buffer;
    lanes->awaited[v] = NONE;
  }
}

static void clear_lanes(Space *s) {
  const Program *p = &s->program;
  Lanes *lanes = &s->lanes;
  for (int v = 0; v < p->values; v++) {
    lanes->is_buffer[v] = p->trait[v] & BUFFER ? 3 : s->held.passes[v];
    lanes->unmade[v] = p->trait[v] & (OUTPUT | GRADIENT);
    lanes->in_flight[v] = lanes->roots.length[v] = lanes->given.length[v] = 0;
    lanes->sent[v] = lanes->awaited[v] = lanes->moved[v] = NONE;
    lanes->at_host[v] = lanes->cost[v] = 0.0;
    lanes->in_parts[v] = (p->trait[v] & (ARGUMENT | COTANGENT)) != 0;
    lanes->content[v] = lanes->in_parts[v] ? OF_CALLER : NONE;
  }
  for (int v = 0; v < p->values; v++)
    if (p->base[v] >= 0) lanes->is_buffer[p->base[v]] |= s->held.passes[v];
  for (int k = 0; k < s->copies.value.count; k++) {
    int v = s->copies.value.at[k];
    lanes->is_buffer[v] = 3;
    if (p->base[v] >= 0) lanes->is_buffer[p->base[v]] = 3;
  }
  lanes->of.count = lanes->made.count = lanes->read.count = lanes->fixed.count = 0;
  lanes->entry.count = lanes->family.count = 0;
  lanes->over.count = lanes->over_step.count = 0;
  lanes->writes.count = lanes->written.count = 0;
  lanes->made_over.count = lanes->over_of.count = lanes->by_run.count = lanes->runs = 0;
  lanes->roots.pool.count = lanes->given.pool.count = 0;
  lanes->clock = lanes->out_lane = lanes->back_lane = 0.0;
  Sets *sets[] = {&lanes->roots, &lanes->given};
  for (int i = 0; i < 2; i++)
    if (sets[i]->stamp > 1 << 30) sets[i]->stamp = sets[i]->mark.count = 0;
  for (int i = 0; i < p->given_count; i++)
    set_one(s, &lanes->given, p->given[i], p->given[i]);
}

static void play(Space *s) {
  Templates *found = &s->templates;
  Places *places = &s->places;
  clear_lanes(s);
  s->lanes.ahead = NONE;
  for (int at = 0; at < s->order.template_of.count; at++) {
    int t = s->order.template_of.at[at];
    if (is_behind(s, at) && s->lanes.ahead == NONE)
      s->lanes.ahead = s->lanes.entry.count;
    wait_for(s, places->wait.at[at], places->back.at[at], at);
    wait_for(s, NONE, places->late.at[at], at);
    swap_in(s, places->back.at[at], at);
    swap_in(s, places->late.at[at], at);
    for (int k = found->part_start[t]; k < found->part_end[t]; k++)
      run_equation(s, found->parts.at[k], at);
    swap_out(s, at);
  }
  if (s->lanes.ahead == NONE) s->lanes.ahead = s->lanes.entry.count;
}
