/* Entries and copies -> steps and buffers: `_simulate/kernels.py`. */

enum { FAMILY = 8 };

/* Append a step. Return its number. */
static int add_step(Space *s, int at, Step step) {
  Lanes *lanes = &s->lanes;
  int number = lanes->entry.count;
  push(s, &lanes->entry, at);
  if (number + 2 > lanes->step_room) {
    size_t room = lanes->step_room = 2 * number + 64;
    lanes->steps = resized(s, lanes->steps, room * sizeof(Step));
    lanes->seconds = resized(s, lanes->seconds, room * sizeof(double));
    lanes->bytes_at = resized(s, lanes->bytes_at, room * sizeof(Bytes));
    lanes->sums = resized(s, lanes->sums, room * sizeof(Bytes));
  }
  lanes->steps[number] = step;
  return number;
}

/* Note the buffers whose place the result of a step may take, those of its type. */
static void may_replace(Space *s, int v, int start, int length, int step) {
  const Program *p = &s->program;
  Lanes *lanes = &s->lanes;
  if (p->nbytes[v] < p->in_place_bytes) return;
  for (int i = start; i < start + length; i++) {
    int member = lanes->members.at[i], r = member - p->values;
    if (!is_buffer_of(s, member)) continue;
    int u = lanes->buffers[r].of;
    if (lanes->known[u].content != r || p->type[u] != p->type[v]) continue;
    push(s, &lanes->made_over, lanes->buffer_count); /* the buffer that is made next */
    push(s, &lanes->over_of, r);
    push(s, &lanes->by_step, step);
  }
}

/* Give the results of an equation the bytes of its operands. */
static void run_alias(Space *s, int e) {
  const Program *p = &s->program;
  Lanes *lanes = &s->lanes;
  int i = p->in_start[e], is_parts = is_in_parts(s, e);
  for (int o = p->out_start[e]; o < p->out_start[e + 1]; o++, i++) {
    if (i == p->in_start[e + 1]) break;
    int v = p->outputs[o], source = p->inputs[i];
    int is_same = p->type[v] == p->type[source];
    Known from = lanes->known[source], *known = lanes->known + v;
    known->content = is_same ? from.content : NONE;
    known->in_parts = is_parts || known->content != NONE;
    known->start = from.start, known->length = from.length;
    if (!known->is_unmade) continue;
    known->is_unmade = 0;
    for (int r = from.start; r < from.start + from.length; r++)
      if (is_buffer_of(s, lanes->members.at[r]))
        buffer_at(s, lanes->members.at[r])->fixed = 1;
  }
}

/* Whether a cheap kernel is fused with one before it that reads the same. */
static int joins_family(Space *s, int start, int length) {
  List *family = &s->lanes.family;
  int count = family->count / 2, first = count > FAMILY ? count - FAMILY : 0, own = 0;
  for (int i = start; i < start + length; i++)
    own += is_buffer_of(s, s->lanes.members.at[i]);
  for (int i = count - 1; own && i >= first; i--)
    if (is_within(s, start, length, family->at[2 * i], family->at[2 * i + 1])) return 1;
  push(s, family, start);
  push(s, family, length);
  return 0;
}

/* Return the seconds of a kernel without a loop: the longer of its arithmetic and its
   bytes. */
static double kernel_seconds(const Program *p, int e, Bytes read, int is_shared) {
  if (p->fixed_seconds[e] >= 0) return p->fixed_seconds[e];
  if (is_shared) return (double)p->made_bytes[e] / p->bytes_per_second[e];
  double moved = later((double)(read + p->made_bytes[e]), p->moved_bytes[e]);
  return p->launch_seconds + later(moved / p->bytes_per_second[e], p->base_seconds[e]);
}

/* Note the operands that an equation's results take the place of. */
static void make_way(Space *s, int e, int step) {
  const Program *p = &s->program;
  Lanes *lanes = &s->lanes;
  for (int i = p->over_start[e]; i < p->over_start[e + 1]; i++) {
    int v = p->overwritten[i], start = lanes->known[v].start;
    for (int r = start; r < start + lanes->known[v].length; r++) {
      int member = lanes->members.at[r];
      if (!is_buffer_of(s, member)) continue;
      if (p->nbytes[buffer_at(s, member)->of] != p->nbytes[v]) continue;
      push(s, &lanes->over, member - p->values);
      push(s, &lanes->over_step, step);
    }
  }
}

/* Hold what a kernel reads until its step. Return the bytes of all. */
static Bytes read_members(Space *s, int start, int length, int step) {
  const Bytes *nbytes = s->program.nbytes;
  Bytes read = 0;
  for (int i = start; i < start + length; i++) {
    int member = s->lanes.members.at[i];
    if (!is_buffer_of(s, member)) {
      read += nbytes[member];
      continue;
    }
    Buffer *buffer = buffer_at(s, member);
    read += nbytes[buffer->of];
    buffer->read = step;
  }
  return read;
}

/* Make the results of a kernel. */
static void write_results(Space *s, int e, int start, int length, int step) {
  const Program *p = &s->program;
  Lanes *lanes = &s->lanes;
  for (int o = p->out_start[e]; o < p->out_start[e + 1]; o++) {
    int b = new_buffer(s, p->outputs[o], step);
    if (!(p->kind[e] & CHEAP) || p->kind[e] & (HEAVY | REDUCTION)) continue;
    for (int i = start; i < start + length; i++) {
      if (!is_buffer_of(s, lanes->members.at[i])) continue;
      push(s, &lanes->writes, b);
      push(s, &lanes->written, lanes->members.at[i] - p->values);
    }
  }
}

/* Execute an equation. It is a kernel unless it is fused into what reads it. `bit`: 1 in
   the forward pass, 2 in the backward pass. */
static void run_equation(Space *s, int e, int at, int bit) {
  const Program *p = &s->program;
  Lanes *lanes = &s->lanes;
  int kind = p->kind[e], start, length, is_stored = 0, is_shared = 0;
  if (kind & ALIAS) {
    run_alias(s, e);
    return;
  }
  int is_parts = is_in_parts(s, e);
  unite(s, e, &start, &length);
  for (int i = p->out_start[e]; i < p->out_start[e + 1]; i++)
    is_stored |= lanes->known[p->outputs[i]].is_buffer & bit;
  if (kind & FUSIBLE && !is_stored) {
    for (int i = p->out_start[e]; i < p->out_start[e + 1]; i++) {
      Known *made = lanes->known + p->outputs[i];
      made->start = start, made->length = length;
      made->in_parts = is_parts, made->content = NONE;
    }
    return;
  }
  if (kind & HEAVY) lanes->family.count = 0;
  if (kind & CHEAP) is_shared = joins_family(s, start, length);
  int step = lanes->entry.count, is_again = bit == 2 && !(kind & BACKWARD);
  Bytes read = read_members(s, start, length, step);
  double alone = kernel_seconds(p, e, read, is_shared);
  add_step(s, at, (Step){KERNEL, e, start, length, is_again, 0, alone});
  make_way(s, e, step);
  if (is_parts) may_replace(s, p->outputs[p->out_start[e]], start, length, step);
  write_results(s, e, start, length, step);
}

static void await(Space *s, int k) {
  Travel *travel = s->lanes.travels + k;
  if (!travel->in_flight) return;
  push(s, &s->lanes.waited, k);
  travel->in_flight = 0;
  travel->awaited = s->lanes.entry.count;
}

/* Wait for copies to the host: for one list of swaps and one of gaps. */
static void wait_for(Space *s, int swap, int gap, int at) {
  int start = s->lanes.waited.count;
  for (int k = swap; k != NONE; k = s->places.wait_next.at[k]) await(s, k);
  for (int g = gap; g != NONE; g = s->places.back_next.at[g])
    await(s, s->copies.swap.at[g]);
  int length = s->lanes.waited.count - start;
  if (length) add_step(s, at, (Step){WAIT, NONE, start, length, 0, 0, 0.0});
}

static void swap_in(Space *s, int first, int at) {
  for (int g = first; g != NONE; g = s->places.back_next.at[g]) {
    int k = s->copies.swap.at[g], step = s->lanes.entry.count;
    int b = new_buffer(s, s->copies.value.at[k], step);
    add_step(s, at, (Step){RETURN, k, b, 0, 0, 0, s->program.launch_seconds});
    s->lanes.travels[k].moved = step;
  }
}

static void swap_out(Space *s, int at) {
  Lanes *lanes = &s->lanes;
  int next = least(at + 1, s->order.template_of.count - 1);
  for (int k = s->places.leave.at[at]; k != NONE; k = s->places.leave_next.at[k]) {
    const Known *known = lanes->known + s->copies.value.at[k];
    int step = lanes->entry.count, buffer = NONE;
    for (int r = known->start; r < known->start + known->length; r++)
      buffer = most(buffer, lanes->members.at[r] - s->program.values);
    if (buffer < 0) buffer = NONE;
    if (buffer != NONE) lanes->buffers[buffer].read = step;
    add_step(s, next, (Step){LEAVE, k, 0, 0, 0, 0, s->program.launch_seconds});
    lanes->travels[k] = (Travel){1, step, buffer, NONE, step, 0.0};
  }
}

static void clear_lanes(Space *s) {
  const Program *p = &s->program;
  Lanes *lanes = &s->lanes;
  int swaps = s->copies.value.count;
  memcpy(lanes->known, lanes->fresh, sizeof(Known) * (size_t)p->values);
  for (int i = 0; i < s->held.values.count; i++) {
    int v = s->held.values.at[i], passes = s->held.passes[v];
    lanes->known[v].is_buffer |= passes;
    if (p->base[v] >= 0) lanes->known[p->base[v]].is_buffer |= passes;
  }
  if (swaps > lanes->travel_room) {
    lanes->travel_room = 2 * swaps;
    lanes->travels =
        resized(s, lanes->travels, sizeof(Travel) * (size_t)lanes->travel_room);
  }
  for (int k = 0; k < swaps; k++) {
    int v = s->copies.value.at[k];
    lanes->travels[k] = (Travel){0, NONE, NONE, NONE, NONE, 0.0};
    lanes->known[v].is_buffer = 3;
    if (p->base[v] >= 0) lanes->known[p->base[v]].is_buffer = 3;
  }
  lanes->buffer_count = 0;
  lanes->entry.count = lanes->family.count = 0;
  lanes->over.count = lanes->over_step.count = 0;
  lanes->writes.count = lanes->written.count = 0;
  lanes->made_over.count = lanes->over_of.count = lanes->by_step.count = 0;
  lanes->waited.count = 0;
  if (lanes->stamp > 1 << 30) lanes->stamp = lanes->mark.count = 0;
  while (lanes->mark.count < p->values) push(s, &lanes->mark, 0);
  /* What the caller gives consists of itself. `fresh` says where that stands. */
  lanes->members.count = 0;
  for (int i = 0; i < p->given_count; i++) push(s, &lanes->members, p->given[i]);
}

static void play(Space *s) {
  Templates *found = &s->templates;
  Places *places = &s->places;
  clear_lanes(s);
  s->lanes.ahead = NONE;
  for (int at = 0; at < s->order.template_of.count; at++) {
    int t = s->order.template_of.at[at], bit = is_behind(s, at) ? 2 : 1;
    if (bit == 2 && s->lanes.ahead == NONE) s->lanes.ahead = s->lanes.entry.count;
    if (places->is_busy.at[at]) {
      wait_for(s, places->wait.at[at], places->back.at[at], at);
      wait_for(s, NONE, places->late.at[at], at);
      swap_in(s, places->back.at[at], at);
      swap_in(s, places->late.at[at], at);
    }
    for (int k = found->part_start[t]; k < found->part_end[t]; k++)
      run_equation(s, found->parts.at[k], at, bit);
    if (places->leave.at[at] != NONE) swap_out(s, at);
  }
  if (s->lanes.ahead == NONE) s->lanes.ahead = s->lanes.entry.count;
}
