/* Actions -> bytes and seconds: `Arranger.arrange` in `_simulate/draft.py`. */

typedef struct {
  Bytes device_bytes, host_bytes, fragmented_bytes;
  double seconds, crowd;
  int steps;
  const Bytes *bytes_at; /* at each step */
  int entries;
  const int *template_of; /* of each entry */
  const Bytes *entry_bytes; /* the most device memory at each */
  int swaps, in_place; /* in_place: whether results are written so */
  const int *swapped, *free_at, *start; /* of each swap; see `Copies` */
  const int *gate, *use, *done_at; /* of each gap */
} Result;

/* Count the steps whose memory is near the peak: each its share to the power of 32. */
static double crowd_of(const Bytes *at, int steps, Bytes peak) {
  double crowd = 0.0;
  for (int step = 0; step < steps; step++) {
    double share = (double)at[step] / (double)(peak > 0 ? peak : 1);
    for (int i = 0; i < 5; i++) share *= share;
    crowd += share;
  }
  return crowd;
}

/* End the lives of buffers: behind their copies, and before what takes their place. */
static void end_lives(Space *s) {
  Lanes *lanes = &s->lanes;
  Buffer *buffers = lanes->buffers;
  int steps = lanes->entry.count;
  fill(s, &lanes->copied, lanes->buffer_count, NONE);
  for (int k = 0; k < s->copies.value.count; k++) { /* what is being copied stays */
    Travel travel = lanes->travels[k];
    if (travel.sent == NONE || travel.buffer == NONE) continue;
    int until = (travel.sent < lanes->ahead ? lanes->ahead : steps) - 1;
    if (travel.awaited != NONE) until = travel.awaited - 1;
    int *read = &buffers[travel.buffer].read;
    int *copied = &lanes->copied.at[travel.buffer];
    *read = most(*read, until), *copied = most(*copied, until);
  }
  for (int i = 0; i < lanes->over.count; i++) { /* what is overwritten makes way */
    int *read = &buffers[lanes->over.at[i]].read;
    if (*read == lanes->over_step.at[i]) --*read;
  }
}

/* Write results over operands that nothing reads later: `_simulate/in_place.py`. What
   does so takes longer. */
static void take_places(Space *s) {
  const Program *p = &s->program;
  Lanes *lanes = &s->lanes;
  Buffer *buffers = lanes->buffers;
  lanes->taken.count = lanes->taken_from.count = 0;
  for (int i = 0, next = 0; i < lanes->made_over.count; i = next) {
    int b = lanes->made_over.at[i], old = NONE, made = buffers[b].made;
    Step *step = lanes->steps + lanes->by_step.at[i];
    for (; next < lanes->made_over.count && lanes->made_over.at[next] == b; next++) {
      int r = lanes->over_of.at[next];
      if (buffers[r].fixed || buffers[r].read != made) continue;
      if (lanes->copied.at[r] >= made) continue;
      if (old == NONE || r < old) old = r;
    }
    if (old == NONE || buffers[b].fixed) continue;
    step->is_loop = p->fixed_seconds[step->number] < 0;
    buffers[old].read--;
    push(s, &lanes->taken, b);
    push(s, &lanes->taken_from, old);
  }
}

/* Count the bytes at each step. Return the step with the most of them. */
static int add_bytes(Space *s, Result *result) {
  const Program *p = &s->program;
  Lanes *lanes = &s->lanes;
  Bytes *at = lanes->bytes_at;
  int steps = lanes->entry.count, peak = 0;
  at[0] = 0;
  for (int i = 0; i < steps; i++) { /* what is inside a kernel goes with it */
    const Step *step = lanes->steps + i;
    Bytes inside = step->what == KERNEL ? p->inside_bytes[step->number] : 0;
    at[i] += inside, at[i + 1] = -inside;
  }
  for (int b = 0; b < lanes->buffer_count; b++) {
    Buffer one = lanes->buffers[b];
    if (one.fixed) continue;
    at[one.made] += p->nbytes[one.of];
    at[most(one.read, one.made) + 1] -= p->nbytes[one.of];
  }
  Bytes now = p->caller_bytes;
  result->device_bytes = now;
  for (int step = 0; step < steps; step++) {
    at[step] = now += at[step];
    if (now > result->device_bytes) result->device_bytes = now, peak = step;
  }
  return peak;
}

/* Return the peak of host memory. */
static Bytes host_bytes(Space *s) {
  const Program *p = &s->program;
  Lanes *lanes = &s->lanes;
  int steps = lanes->entry.count;
  if (!s->copies.value.count && !p->has_hosted) return p->loop_host_bytes;
  memset(lanes->sums, 0, sizeof(Bytes) * (size_t)(steps + 1));
  for (int k = 0; k < s->copies.value.count; k++) {
    Travel travel = lanes->travels[k];
    Bytes nbytes = p->copied_bytes[s->copies.value.at[k]];
    if (travel.sent == NONE) continue;
    lanes->sums[travel.sent] += nbytes;
    lanes->sums[travel.moved + 1] -= nbytes;
  }
  for (int b = 0; b < lanes->buffer_count && p->has_hosted; b++) { /* by sweeps */
    Buffer one = lanes->buffers[b];
    lanes->sums[one.made] += p->host_nbytes[one.of];
    lanes->sums[most(one.read, one.made) + 1] -= p->host_nbytes[one.of];
  }
  return highest_sum(lanes->sums, steps, p->loop_host_bytes);
}

static void grow_clock(Space *s) {
  Clock *clock = &s->clock;
  int count = s->order.template_of.count;
  if (count <= clock->room) return;
  size_t room = clock->room = 2 * count;
  clock->starts = resized(s, clock->starts, room * sizeof(double));
  clock->ends = resized(s, clock->ends, room * sizeof(double));
  clock->heavy_starts = resized(s, clock->heavy_starts, room * sizeof(double));
  clock->used = resized(s, clock->used, room * sizeof(Bytes));
  clock->started = resized(s, clock->started, room * sizeof(int));
}

/* Note about when each entry begins if no copy is waited for. */
static void guess_starts(Space *s) {
  Templates *found = &s->templates;
  double now = 0.0;
  for (int at = 0; at < s->order.template_of.count; at++) {
    int t = s->order.template_of.at[at];
    double seconds = 0.0;
    for (int k = found->part_start[t]; k < found->part_end[t]; k++)
      seconds += s->program.seconds_alone[found->parts.at[k]];
    s->clock.starts[at] = now;
    now += seconds;
  }
}

/* Note when entries run, and the most memory at each of them. */
static void fill_clock(Space *s) {
  Clock *clock = &s->clock;
  Lanes *lanes = &s->lanes;
  int count = s->order.template_of.count;
  double now = 0.0;
  for (int at = 0; at < count; at++) clock->ends[at] = 0.0, clock->used[at] = 0;
  for (int step = 0; step < lanes->entry.count; step++) {
    int at = lanes->entry.at[step];
    clock->ends[at] += lanes->seconds[step];
    if (lanes->bytes_at[step] > clock->used[at]) clock->used[at] = lanes->bytes_at[step];
  }
  for (int at = 0; at < count; at++) {
    if (!clock->used[at])
      clock->used[at] = at ? clock->used[at - 1] : s->program.caller_bytes;
    clock->starts[at] = now;
    now += clock->ends[at];
    clock->ends[at] = now;
  }
}

/* Mark the values of the buffers that hold memory at a step. */
static void mark_alive(Space *s, int peak, signed char *alive) {
  Lanes *lanes = &s->lanes;
  memset(alive, 0, (size_t)s->program.values);
  for (int b = 0; b < lanes->buffer_count; b++) {
    Buffer one = lanes->buffers[b];
    if (one.made <= peak && peak <= most(one.read, one.made) && !one.fixed)
      alive[one.of] = 1;
  }
}

/* Write nothing in place, to begin with. */
static void start_anew(Space *s, int may_be_in_place) {
  s->may_be_in_place = may_be_in_place, s->in_place = 0;
  s->lanes.taken.count = s->lanes.taken_from.count = 0;
}

/* Simulate the order with its copies, but for the time. Return the step with the most
   memory. */
static int simulate(Space *s, Result *result) {
  file_copies(s);
  hold(s);
  play(s);
  end_lives(s);
  if (s->in_place) take_places(s);
  return add_bytes(s, result);
}

/* Fill in what a draft takes. `alive` gets a mark for each value that holds memory at
   the peak. `cost` gets the seconds of each value's recomputations, and of the stalls of
   what reads it. */
static void describe_draft(Space *s, int peak, Result *result, signed char *alive,
                           double *cost) {
  Lanes *lanes = &s->lanes;
  keep_time(s);
  result->host_bytes = host_bytes(s);
  result->seconds = later(lanes->clock, later(lanes->out_lane, lanes->back_lane));
  result->steps = lanes->entry.count;
  result->bytes_at = lanes->bytes_at;
  result->crowd = crowd_of(lanes->bytes_at, result->steps, result->device_bytes);
  mark_alive(s, peak, alive);
  fill_clock(s);
  result->entries = s->order.template_of.count;
  result->template_of = s->order.template_of.at;
  result->entry_bytes = s->clock.used;
  result->swaps = s->copies.value.count, result->in_place = s->in_place;
  result->swapped = s->copies.value.at, result->free_at = s->copies.free_at.at;
  result->start = s->copies.start.at, result->gate = s->copies.gate.at;
  result->use = s->copies.use.at, result->done_at = s->copies.done_at.at;
  memcpy(cost, lanes->cost, sizeof(double) * (size_t)s->program.values);
  if (s->program.expects_gaps)
    result->fragmented_bytes = expected_gap_bytes(s, result->device_bytes);
  else
    result->fragmented_bytes = 0;
}

/* Lay out and simulate actions. Return 0, or -1 if memory does not suffice. Results are
   written in place if they may be and the limit is exceeded otherwise. `eager` marks
   values whose copies back must be done early; it may be null. */
int jaxswap_arrange(Space *s, const signed char *actions, const Staleness *staleness,
                    Bytes limit, int may_be_in_place, double patience,
                    const signed char *eager, Result *result, signed char *alive,
                    double *cost) {
  if (setjmp(s->no_memory)) return -1;
  lay_out_entries(s, actions, staleness);
  grow_clock(s);
  guess_starts(s);
  absences(s, actions, patience);
  tight(s);
  start_anew(s, may_be_in_place);
  int peak = simulate(s, result);
  if (may_be_in_place && result->device_bytes > limit) {
    s->in_place = 1;
    take_places(s);
    peak = add_bytes(s, result);
  }
  if (s->copies.value.count) {
    keep_time(s);
    fill_clock(s);
    place(s, limit, eager);
    peak = simulate(s, result);
  }
  describe_draft(s, peak, result, alive, cost);
  return 0;
}

/* The same for what a policy decided, with copies by its distances: `Arranger.follow`.
   `leaving` are the values that leave if their uses are far enough apart. */
int jaxswap_follow(Space *s, const signed char *actions, const Staleness *staleness,
                   const int *leaving, int count, const Timing *timing, Result *result,
                   signed char *alive, double *cost) {
  if (setjmp(s->no_memory)) return -1;
  lay_out_entries(s, actions, staleness);
  grow_clock(s);
  start_anew(s, 0);
  swaps_by_distance(s, leaving, count, timing);
  describe_draft(s, simulate(s, result), result, alive, cost);
  return 0;
}

void jaxswap_close(Space *s) {
  if (!s) return;
  Held *held = &s->held;
  Lanes *lanes = &s->lanes;
  List *lists[] = {
      &s->templates.parts, &s->templates.reads, &s->templates.makes,
      &s->order.template_of, &s->order.kind, &s->order.might_run_early,
      &s->order.heavy, &s->order.heavy_before,
      &s->order.use_start, &s->order.uses, &s->order.quiet_until, &s->copies.value,
      &s->copies.free_at, &s->copies.start, &s->copies.left, &s->copies.use,
      &s->copies.swap, &s->copies.gate, &s->copies.done_at, &s->places.leave,
      &s->places.leave_next, &s->places.wait, &s->places.wait_next, &s->places.back,
      &s->places.late, &s->places.back_next, &s->places.done, &s->places.done_next,
      &held->inputs, &held->inputs_end, &held->awaited, &held->awaited_end,
      &held->item, &held->item_next, &held->recent, &held->pending, &held->device,
      &held->values, &s->places.is_busy, &lanes->members, &lanes->mark, &lanes->entry,
      &lanes->over, &lanes->over_step, &lanes->writes, &lanes->written, &lanes->first,
      &lanes->until, &lanes->made_over, &lanes->over_of, &lanes->by_step, &lanes->taken,
      &lanes->taken_from, &lanes->waited, &lanes->copied,
      &lanes->family, &s->stack, &s->depth, &s->chain_at, &s->by_use,
      &s->first_of_use, &s->distances.covers, &s->distances.levels,
      &s->distances.started, &s->distances.largest_first};
  void *vectors[] = {lanes->buffers, lanes->travels, lanes->steps, lanes->seconds,
                     lanes->bytes_at, lanes->sums, s->clock.starts, s->clock.ends,
                     s->clock.heavy_starts, s->clock.use_starts, s->clock.made_ends,
                     s->clock.used, s->clock.started, s->distances.flops, s->lives,
                     lanes->known};
  for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) free(lists[i]->at);
  for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) free(vectors[i]);
  free(s->stored); /* the block that all vectors of one length share */
  free(s);
}

/* Note what is known of values before the first entry. What the caller gives consists of
   itself, and stands first in `members`. */
static void describe_fresh(Space *s) {
  const Program *p = &s->program;
  for (int v = 0; v < p->values; v++) {
    int is_given = p->trait[v] & (ARGUMENT | COTANGENT);
    s->lanes.fresh[v] = (Known){.is_buffer = p->trait[v] & BUFFER ? 3 : 0,
                                .in_parts = is_given != 0,
                                .content = is_given ? OF_CALLER : NONE,
                                .is_unmade = p->trait[v] & (OUTPUT | GRADIENT)};
  }
  for (int i = 0; i < p->given_count; i++) {
    s->lanes.fresh[p->given[i]].start = i;
    s->lanes.fresh[p->given[i]].length = 1;
  }
}

/* Return what drafts of a program are laid out in; null if memory does not suffice.
   The program's vectors must live as long. */
Space *jaxswap_open(const Program *program) {
  Space *s = calloc(1, sizeof(Space));
  if (!s) return NULL;
  s->program = *program;
  int n = most(program->values, 2 * program->equations) + 1;
  int **of_ints[] = {
      &s->stored, &s->needed, &s->wanted, &s->seen, &s->inline_view, &s->chain, &s->mark,
      &s->last, &s->last_own, &s->templates.part_start, &s->templates.part_end,
      &s->templates.read_start, &s->templates.read_end, &s->templates.make_start,
      &s->templates.make_end, &s->order.made, &s->order.last_use, &s->held.passes,
      &s->held.mark, &s->held.after, &s->held.held_stamp, &s->held.swapped};
  size_t ints = sizeof of_ints / sizeof *of_ints, length = (size_t)(n + n % 2);
  /* Vectors of four bytes, of eight, of one: each begins where its kind may. */
  char *block = calloc(length, ints * 4 + 2 * 8 + 8);
  Known *known = calloc(length, 2 * sizeof(Known));
  if (!block || !known) {
    free(block), free(known), free(s);
    return NULL;
  }
  for (size_t i = 0; i < ints; i++) *of_ints[i] = (int *)(block + i * length * 4);
  block += ints * length * 4;
  s->held.held_bytes = (Bytes *)block;
  s->lanes.cost = (double *)(block + length * 8);
  s->was_recomputed = (signed char *)(block + 2 * length * 8);
  s->lanes.known = known, s->lanes.fresh = known + length;
  describe_fresh(s);
  return s;
}
