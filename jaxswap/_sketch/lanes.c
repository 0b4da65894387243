/* Steps -> seconds: the lanes of computation and of copies, as `_simulate/simulate.py`
   has them. */

enum { LOOP_LAUNCHES = 5 };

/* Return the seconds of a copy while the other lane is busy for `overlap`. */
static double beside(double alone, double overlap, double share) {
  if (overlap <= 0) return alone;
  if (alone <= overlap * share) return alone / share;
  return overlap + alone - overlap * share;
}

/* Compute, as soon as what the kernel reads is there. */
static void run_kernel(Space *s, const Step *step, double *seconds) {
  const Program *p = &s->program;
  Lanes *lanes = &s->lanes;
  const int *members = lanes->members.at + step->start;
  double ready = 0.0;
  for (int i = 0; i < step->length; i++)
    if (is_buffer_of(s, members[i]))
      ready = later(ready, buffer_at(s, members[i])->arrival);
  for (int i = 0; ready > lanes->clock && i < step->length; i++)
    if (is_buffer_of(s, members[i]))
      lanes->cost[buffer_at(s, members[i])->of] += ready - lanes->clock;
  *seconds = step->alone;
  if (step->is_loop) *seconds += LOOP_LAUNCHES * p->launch_seconds;
  lanes->clock = later(ready, lanes->clock) + *seconds;
  int e = step->number;
  for (int o = p->out_start[e]; step->is_again && o < p->out_start[e + 1]; o++)
    lanes->cost[p->outputs[o]] += *seconds;
}

static void copy_out(Space *s, int k) {
  const Program *p = &s->program;
  Lanes *lanes = &s->lanes;
  int v = s->copies.value.at[k];
  lanes->clock += p->launch_seconds;
  double begin = later(lanes->clock, lanes->out_lane);
  double overlap = lanes->back_lane - begin;
  lanes->out_lane = begin + beside(p->out_seconds[v], overlap, p->out_share);
  lanes->travels[k].at_host = lanes->out_lane;
}

static void copy_back(Space *s, int k, int b) {
  const Program *p = &s->program;
  Lanes *lanes = &s->lanes;
  int v = s->copies.value.at[k];
  lanes->clock += p->launch_seconds;
  double begin = later(lanes->clock, lanes->back_lane);
  begin = later(begin, lanes->travels[k].at_host);
  double overlap = lanes->out_lane - begin;
  lanes->back_lane = begin + beside(p->back_seconds[v], overlap, p->back_share);
  lanes->buffers[b].arrival = lanes->back_lane;
}

/* Find out when each step runs. */
static void keep_time(Space *s) {
  Lanes *lanes = &s->lanes;
  memset(lanes->cost, 0, sizeof(double) * (size_t)s->program.values);
  for (int k = 0; k < s->copies.value.count; k++) lanes->travels[k].at_host = 0.0;
  lanes->clock = lanes->out_lane = lanes->back_lane = 0.0;
  for (int i = 0; i < lanes->entry.count; i++) {
    const Step *step = lanes->steps + i;
    lanes->seconds[i] = step->alone;
    if (step->what == KERNEL) run_kernel(s, step, lanes->seconds + i);
    if (step->what == LEAVE) copy_out(s, step->number);
    if (step->what == RETURN) copy_back(s, step->number, step->start);
    for (int j = 0; step->what == WAIT && j < step->length; j++) {
      int k = lanes->waited.at[step->start + j];
      lanes->clock = later(lanes->clock, lanes->travels[k].at_host);
    }
  }
}
