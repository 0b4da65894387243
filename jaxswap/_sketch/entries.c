/* Actions -> the entries of both passes: `_schedule/entries.py` and `order.py`. */

static void stored_values(Space *s, const signed char *actions) {
  const Program *p = &s->program;
  memset(s->stored, 0, sizeof(int) * (size_t)p->values);
  memset(s->seen, 0, sizeof(int) * (size_t)p->values);
  s->stack.count = 0;
  for (int i = 0; i < p->residual_count; i++) push(s, &s->stack, p->residuals[i]);
  while (s->stack.count) {
    int v = s->stack.at[--s->stack.count], e = p->remaker[v];
    if (s->seen[v] || e < 0) continue;
    s->seen[v] = 1;
    if (actions[v] == RECOMPUTE && p->kind[e] & PURE) {
      for (int i = p->in_start[e]; i < p->in_start[e + 1]; i++)
        if (!s->seen[p->inputs[i]]) push(s, &s->stack, p->inputs[i]);
    } else {
      s->stored[v] = 1;
    }
  }
}

/* Mark the views that are issued with what reads them: in the forward pass all but
   outputs, in the backward pass all but what it begins and ends with. Return whether any
   is one that was none before, or the other way round. */
static int find_views(Space *s) {
  const Program *p = &s->program;
  const int apart = GRADIENT | ARGUMENT | COTANGENT;
  int is_changed = 0;
  for (int e = 0; e < p->equations; e++) {
    if (!(p->kind[e] & LONE_VIEW)) continue;
    int v = p->outputs[p->out_start[e]], *views = s->inline_view;
    int ahead = !s->stored[v] && !(p->trait[v] & OUTPUT);
    int behind = !s->stored[v] && !(p->trait[v] & apart);
    is_changed |= views[e] != ahead || views[e + p->equations] != behind;
    views[e] = ahead, views[e + p->equations] = behind;
  }
  return is_changed;
}

static void list_values(Space *s, int t) {
  const Program *p = &s->program;
  Templates *found = &s->templates;
  found->make_start[t] = found->makes.count;
  found->read_start[t] = found->reads.count;
  for (int k = found->part_start[t]; k < found->part_end[t]; k++) {
    int part = found->parts.at[k];
    for (int i = p->out_start[part]; i < p->out_start[part + 1]; i++) {
      push(s, &found->makes, p->outputs[i]);
      s->mark[p->outputs[i]] = t;
    }
  }
  for (int k = found->part_start[t]; k < found->part_end[t]; k++) {
    int part = found->parts.at[k];
    for (int i = p->in_start[part]; i < p->in_start[part + 1]; i++) {
      int v = p->inputs[i];
      if (s->mark[v] != t) {
        s->mark[v] = t;
        push(s, &found->reads, v);
      }
    }
  }
  found->make_end[t] = found->makes.count;
  found->read_end[t] = found->reads.count;
}

/* Describe the entry of an equation, with the views that it reads before it. It stays as
   it is for as long as views do. */
static void describe(Space *s, int e, int t) {
  const Program *p = &s->program;
  Templates *found = &s->templates;
  const int *views = s->inline_view + (t < p->equations ? 0 : p->equations);
  if (found->part_end[t] != NONE) return;
  found->part_start[t] = found->parts.count;
  s->depth.count = s->chain_at.count = 0;
  push(s, &s->depth, e);
  push(s, &s->chain_at, p->in_start[e]);
  while (s->depth.count) {
    int part = s->depth.at[s->depth.count - 1];
    int i = s->chain_at.at[s->chain_at.count - 1];
    if (i < p->in_start[part + 1]) {
      s->chain_at.at[s->chain_at.count - 1] = i + 1;
      int view = p->producer[p->inputs[i]];
      if (view >= 0 && views[view] && s->chain[view] != t) {
        push(s, &s->depth, view);
        push(s, &s->chain_at, p->in_start[view]);
      }
    } else {
      s->chain[part] = t;
      push(s, &found->parts, part);
      s->depth.count--;
      s->chain_at.count--;
    }
  }
  found->part_end[t] = found->parts.count;
  list_values(s, t);
}

static void forward_entries(Space *s) {
  const Program *p = &s->program;
  for (int v = 0; v < p->values; v++)
    s->needed[v] = s->stored[v] || p->trait[v] & OUTPUT;
  for (int e = p->equations - 1; e >= 0; e--) {
    s->wanted[e] = 0;
    if (p->kind[e] & JOIN) continue;
    for (int i = p->out_start[e]; i < p->out_start[e + 1]; i++)
      if (s->needed[p->outputs[i]]) s->wanted[e] = 1;
    for (int i = p->in_start[e]; s->wanted[e] && i < p->in_start[e + 1]; i++)
      s->needed[p->inputs[i]] = 1;
  }
  for (int e = 0; e < p->equations; e++) {
    if (p->kind[e] & BACKWARD || s->inline_view[e]) continue;
    if (s->wanted[e] || !(p->kind[e] & (PURE | CUT))) {
      describe(s, e, e);
      push(s, &s->order.template_of, e);
    }
  }
}

/* Heavy entries of the backward pass so far: all, and those that are its own. */
typedef struct { int heavy, own; } Passed;

/* Whether a forward value has to be recomputed before it can be read. In the backward
   pass `stored` marks all values that are there without it. */
static int is_missing(const Space *s, int v, const Passed *passed) {
  const Program *p = &s->program;
  const Staleness *stale = &s->staleness;
  if (s->stored[v]) return 0;
  if (s->last[v] < 0) return 1;
  if (p->nbytes[v] < stale->large_bytes) return 0;
  if (p->kind[p->remaker[v]] & CHEAP && passed->heavy - s->last[v] > stale->stale_after)
    return 1;
  return stale->hold_for && passed->own - s->last_own[v] > stale->hold_for;
}

static void note_use(Space *s, int v, const Passed *passed) {
  s->last[v] = passed->heavy;
  s->last_own[v] = passed->own;
}

/* Append the entry of an equation, after recomputations of what it reads. */
static void issue_entry(Space *s, int first, Passed *passed) {
  const Program *p = &s->program;
  Templates *found = &s->templates;
  s->stack.count = 0;
  push(s, &s->stack, first);
  while (s->stack.count) {
    int e = s->stack.at[s->stack.count - 1], t = e + p->equations, missing = NONE;
    describe(s, e, t);
    for (int i = found->read_start[t]; i < found->read_end[t] && missing < 0; i++)
      if (is_missing(s, found->reads.at[i], passed)) missing = found->reads.at[i];
    if (missing >= 0) {
      push(s, &s->stack, p->remaker[missing]);
      continue;
    }
    push(s, &s->order.template_of, t);
    s->stack.count--;
    int is_heavy = (p->kind[e] & HEAVY) != 0;
    passed->heavy += is_heavy;
    passed->own += is_heavy && p->kind[e] & BACKWARD;
    for (int i = found->read_start[t]; i < found->read_end[t]; i++)
      note_use(s, found->reads.at[i], passed);
    for (int i = found->make_start[t]; i < found->make_end[t]; i++)
      note_use(s, found->makes.at[i], passed);
  }
}

static void backward_entries(Space *s) {
  const Program *p = &s->program;
  for (int v = 0; v < p->values; v++) {
    s->last[v] = NONE;
    if (p->trait[v] & (ARGUMENT | COTANGENT) || p->producer[v] < 0 ||
        p->kind[p->producer[v]] & BACKWARD)
      s->stored[v] = 1;
  }
  Passed passed = {0, 0};
  for (int i = 0; i < p->behind_count; i++)
    if (!s->inline_view[p->behind[i] + p->equations])
      issue_entry(s, p->behind[i], &passed);
  for (int i = 0; i < p->gradient_count; i++)
    if (is_missing(s, p->gradients[i], &passed))
      issue_entry(s, p->remaker[p->gradients[i]], &passed);
}

/* List the uses of each value, and until when each entry stays in use. */
static void list_uses(Space *s, int total) {
  Templates *found = &s->templates;
  Order *order = &s->order;
  int count = order->template_of.count, *start = order->use_start.at;
  fill(s, &order->uses, total, 0);
  fill(s, &order->quiet_until, count, NONE);
  for (int at = count - 1; at >= 0; at--) {
    int t = order->template_of.at[at], read = NONE, made = NONE;
    for (int i = found->read_start[t]; i < found->read_end[t]; i++) {
      int v = found->reads.at[i], last = order->last_use[v];
      order->uses.at[--start[v + 1]] = at;
      if (i == found->read_start[t] || last < read) read = last;
    }
    for (int i = found->make_start[t]; i < found->make_end[t]; i++)
      made = most(made, order->last_use[found->makes.at[i]]);
    int is_cut = order->kind.at[at] & CUT; /* it is due at once */
    order->quiet_until.at[at] = is_cut ? NONE : least(read, made);
  }
  /* Each start was moved to where the value before had it. */
  for (int v = 0; v < s->program.values; v++) start[v] = start[v + 1];
  start[s->program.values] = total;
}

/* Return what an entry is. */
static int kind_of(const Space *s, int t) {
  const Program *p = &s->program;
  const Templates *found = &s->templates;
  int is_behind = t >= p->equations, kind = p->kind[is_behind ? t - p->equations : t];
  Bytes read = 0, made = 0;
  if (is_behind) kind |= BEHIND;
  if (!(kind & CHEAP) || kind & REDUCTION) return kind;
  for (int i = found->make_start[t]; i < found->make_end[t]; i++)
    made += p->nbytes[found->makes.at[i]];
  for (int i = found->read_start[t]; i < found->read_end[t]; i++)
    read += p->nbytes[found->reads.at[i]];
  return made > 0 && 2 * made < read ? kind | NARROWS : kind;
}

static void index_entries(Space *s) {
  const Program *p = &s->program;
  Templates *found = &s->templates;
  Order *order = &s->order;
  int count = order->template_of.count, total = 0;
  fill(s, &order->use_start, p->values + 1, 0);
  fill(s, &order->heavy_before, count + 1, 0);
  fill(s, &order->kind, count, 0);
  order->heavy.count = 0;
  for (int v = 0; v < p->values; v++) order->made[v] = order->last_use[v] = NONE;
  for (int at = 0; at < count; at++) {
    int t = order->template_of.at[at];
    order->heavy_before.at[at] = order->heavy.count;
    order->kind.at[at] = kind_of(s, t);
    if (is_heavy(s, at)) push(s, &order->heavy, at);
    for (int i = found->read_start[t]; i < found->read_end[t]; i++) {
      order->use_start.at[found->reads.at[i] + 1]++;
      order->last_use[found->reads.at[i]] = at;
      total++;
    }
    for (int i = found->make_start[t]; i < found->make_end[t]; i++)
      if (order->made[found->makes.at[i]] < 0) order->made[found->makes.at[i]] = at;
  }
  order->heavy_before.at[count] = order->heavy.count;
  for (int v = 0; v < p->values; v++) {
    if (p->trait[v] & (OUTPUT | GRADIENT)) order->last_use[v] = count;
    order->use_start.at[v + 1] += order->use_start.at[v];
  }
  list_uses(s, total);
}

/* Find the entries of the backward pass that await no cotangent. */
static void find_early(Space *s) {
  const Program *p = &s->program;
  Templates *found = &s->templates;
  int *dependent = s->needed;
  memset(dependent, 0, sizeof(int) * (size_t)p->values);
  for (int i = 0; i < p->cotangent_count; i++) dependent[p->cotangents[i]] = 1;
  fill(s, &s->order.might_run_early, s->order.template_of.count, 0);
  for (int at = 0; at < s->order.template_of.count; at++) {
    int t = s->order.template_of.at[at], is_awaiting = 0;
    for (int i = found->read_start[t]; i < found->read_end[t]; i++)
      is_awaiting |= dependent[found->reads.at[i]];
    for (int i = found->make_start[t]; is_awaiting && i < found->make_end[t]; i++)
      dependent[found->makes.at[i]] = 1;
    s->order.might_run_early.at[at] = is_behind(s, at) && !is_awaiting;
  }
}

static void forget_templates(Space *s) {
  const Program *p = &s->program;
  Templates *found = &s->templates;
  found->parts.count = found->reads.count = found->makes.count = 0;
  for (int t = 0; t < 2 * p->equations; t++) found->part_end[t] = NONE;
  for (int e = 0; e < p->equations; e++) s->chain[e] = NONE;
  for (int v = 0; v < p->values; v++) s->mark[v] = NONE;
}

/* Lay out the entries, unless the same values were recomputed the last time. */
static void lay_out_entries(Space *s, const signed char *actions,
                            const Staleness *staleness) {
  const Program *p = &s->program;
  Staleness *last = &s->staleness;
  int is_same = s->has_order && last->stale_after == staleness->stale_after &&
                last->hold_for == staleness->hold_for &&
                last->large_bytes == staleness->large_bytes;
  *last = *staleness;
  for (int v = 0; v < p->values; v++) {
    signed char is_recomputed = actions[v] == RECOMPUTE;
    if (is_recomputed != s->was_recomputed[v]) is_same = 0;
    s->was_recomputed[v] = is_recomputed;
  }
  if (is_same) return;
  s->has_order = 0;
  stored_values(s, actions);
  if (find_views(s) || !s->has_templates) forget_templates(s);
  s->has_templates = 0; /* until all that are needed are described */
  s->order.template_of.count = 0;
  forward_entries(s);
  s->order.backward_start = s->order.template_of.count;
  backward_entries(s);
  index_entries(s);
  find_early(s);
  s->has_order = s->has_templates = 1;
}
