/* Order and copies -> the values that barriers hold: `_schedule/issue.py`.

   A value in a barrier becomes a buffer, even if XLA would fuse it otherwise. That is
   all that a barrier changes, beside the waits for copies. */

static void file_copies(Space *s) {
  Copies *copies = &s->copies;
  Places *places = &s->places;
  int count = s->order.template_of.count;
  int swaps = copies->value.count, gaps = copies->left.count;
  List *of_entries[] = {&places->leave, &places->wait, &places->back, &places->late,
                        &places->done};
  for (int i = 0; i < 5; i++) fill(s, of_entries[i], count, NONE);
  fill(s, &places->is_busy, count, 0);
  fill(s, &places->leave_next, swaps, NONE);
  fill(s, &places->wait_next, swaps, NONE);
  fill(s, &places->back_next, gaps, NONE);
  fill(s, &places->done_next, gaps, NONE);
  for (int k = swaps - 1; k >= 0; k--) {
    int made = s->order.made[copies->value.at[k]], free_at = copies->free_at.at[k];
    places->leave_next.at[k] = places->leave.at[made];
    places->leave.at[made] = k;
    if (free_at == NONE) continue;
    places->wait_next.at[k] = places->wait.at[free_at];
    places->wait.at[free_at] = k;
    places->is_busy.at[free_at] = 1;
  }
  for (int g = gaps - 1; g >= 0; g--) {
    int gate = copies->gate.at[g], done_at = copies->done_at.at[g];
    int *first = gate == NONE ? &places->late.at[copies->use.at[g]]
                              : &places->back.at[gate];
    places->back_next.at[g] = *first;
    *first = g;
    places->is_busy.at[gate == NONE ? copies->use.at[g] : gate] = 1;
    if (done_at == NONE) continue;
    places->done_next.at[g] = places->done.at[done_at];
    places->done.at[done_at] = g;
  }
}

static void mark_late(Space *s, int at, int stamp) {
  for (int g = s->places.late.at[at]; g != NONE; g = s->places.back_next.at[g])
    s->held.mark[value_of_gap(s, g)] = stamp;
}

static void mark_made(Space *s, int at, int stamp) {
  Templates *found = &s->templates;
  int t = s->order.template_of.at[at];
  for (int i = found->make_start[t]; i < found->make_end[t]; i++)
    s->held.mark[found->makes.at[i]] = stamp;
}

static void drop_marked(Space *s, int stamp) {
  List *device = &s->held.device;
  int kept = 0;
  for (int i = 0; i < device->count; i++)
    if (s->held.mark[device->at[i]] != stamp) device->at[kept++] = device->at[i];
  device->count = kept;
}

static void append(Space *s, List *first, List *last, int place, int v) {
  Held *held = &s->held;
  int item = held->item.count;
  push(s, &held->item, v);
  push(s, &held->item_next, NONE);
  if (first->at[place] == NONE) first->at[place] = item;
  else held->item_next.at[last->at[place]] = item;
  last->at[place] = item;
}

/* List the inputs of a heavy entry that a barrier holds back: large ones. */
static void list_anchors(Space *s, int at) {
  const Program *p = &s->program;
  Templates *found = &s->templates;
  int t = s->order.template_of.at[at], is_any_made = 0;
  const int *reads = found->reads.at;
  Bytes largest = 0;
  for (int i = found->read_start[t]; i < found->read_end[t]; i++)
    if (p->producer[reads[i]] >= 0) is_any_made = 1;
  for (int i = found->read_start[t]; i < found->read_end[t]; i++)
    if ((p->producer[reads[i]] >= 0 || !is_any_made) && p->nbytes[reads[i]] > largest)
      largest = p->nbytes[reads[i]];
  for (int i = found->read_start[t]; i < found->read_end[t]; i++)
    if ((p->producer[reads[i]] >= 0 || !is_any_made) &&
        8 * p->nbytes[reads[i]] >= largest)
      push(s, &s->held.device, reads[i]);
}

/* Add the barrier for the recomputations at start to end. */
static void hold_run(Space *s, int start, int end, int behind_heavy) {
  Held *held = &s->held;
  Templates *found = &s->templates;
  int is_made = held->stamp + 1, is_listed = held->stamp + 2, place = start;
  held->stamp += 2;
  for (int at = start; at < end; at++) mark_made(s, at, is_made);
  held->device.count = 0;
  if (end < s->order.template_of.count && is_heavy(s, end)) {
    list_anchors(s, end);
    drop_marked(s, is_made);
  }
  if (!held->device.count && behind_heavy != NONE && behind_heavy < start)
    place = behind_heavy;
  for (int at = place; at < end; at++) {
    if (at < start) mark_made(s, at, is_made);
    mark_late(s, at, is_made);
  }
  int items = held->item.count;
  for (int at = start; at < end; at++) {
    int t = s->order.template_of.at[at];
    for (int i = found->read_start[t]; i < found->read_end[t]; i++) {
      int v = found->reads.at[i];
      if (held->mark[v] == is_made || held->mark[v] == is_listed) continue;
      held->mark[v] = is_listed;
      append(s, &held->inputs, &held->inputs_end, place, v);
    }
  }
  for (int i = 0; held->item.count > items && i < held->device.count; i++)
    append(s, &held->awaited, &held->awaited_end, place, held->device.at[i]);
}

static int is_recomputed(const Space *s, int at) {
  return (s->order.kind.at[at] & (BEHIND | BACKWARD)) == BEHIND;
}

/* Find where entries are held back, and what they wait for. */
static void hold_back(Space *s) {
  int count = s->order.template_of.count, behind_heavy = NONE, start = 0;
  const int *is_early = s->order.might_run_early.at;
  for (int end = 1; end <= count; end++) {
    if (end == count || is_early[end] != is_early[start]) {
      if (is_early[start]) hold_run(s, start, end, behind_heavy);
      start = end;
    }
    if (!is_behind(s, end - 1)) continue;
    if (behind_heavy == NONE) behind_heavy = end - 1;
    if (is_heavy(s, end - 1)) behind_heavy = end;
  }
}

/* The next five are those of `_schedule/sequencer.py`. */

/* Whether an entry turns a value into a narrow form for the backward pass. */
static int stores_less(const Space *s, int at) {
  const Templates *found = &s->templates;
  int t = s->order.template_of.at[at], is_late = 0;
  if (!(s->order.kind.at[at] & NARROWS)) return 0;
  for (int i = found->make_start[t]; i < found->make_end[t]; i++)
    /* A copy to the host is waited for by itself. */
    is_late |= s->order.last_use[found->makes.at[i]] >= s->order.backward_start &&
               !s->held.swapped[found->makes.at[i]];
  return is_late;
}

static void pass_by(Space *s, int at) {
  Held *held = &s->held;
  const Templates *found = &s->templates;
  int t = s->order.template_of.at[at], kind = s->order.kind.at[at], latest = 0;
  if (kind & DEFERRED) return;
  if (kind & (BEHIND | CUT) || stores_less(s, at)) push(s, &held->pending, at);
  for (int i = found->read_start[t]; i < found->read_end[t]; i++)
    latest = most(latest, held->after[found->reads.at[i]]);
  if (kind & HEAVY) {
    latest = ++held->passed;
    held->recent.count = 0;
  }
  for (int i = found->make_start[t]; i < found->make_end[t]; i++) {
    held->after[found->makes.at[i]] = latest;
    if (latest == held->passed) push(s, &held->recent, found->makes.at[i]);
  }
}

static void tie(Space *s) {
  Held *held = &s->held;
  int latest = 0;
  for (int i = 0; i < held->device.count; i++)
    latest = most(latest, held->after[held->device.at[i]]);
  for (int i = 0; i < held->device.count; i++) {
    held->after[held->device.at[i]] = latest;
    if (latest == held->passed) push(s, &held->recent, held->device.at[i]);
  }
}

/* List what orders two heavy entries. Return whether there is anything. */
static int list_token(Space *s, int at) {
  const Program *p = &s->program;
  Held *held = &s->held;
  int smallest = NONE;
  for (int i = 0; i < held->recent.count; i++) {
    int v = held->recent.at[i];
    if (s->order.last_use[v] >= at &&
        (smallest == NONE || p->nbytes[v] < p->nbytes[smallest]))
      smallest = v;
  }
  if (smallest != NONE) push(s, &held->device, smallest);
  if (smallest != NONE || held->passed) return smallest != NONE;
  for (int i = 0; i < p->cotangent_count; i++)
    push(s, &held->device, p->cotangents[i]);
  return p->cotangent_count;
}

/* List values to make now, since they let larger values be freed. */
static void list_due(Space *s, int at) {
  Held *held = &s->held;
  Templates *found = &s->templates;
  const Bytes *nbytes = s->program.nbytes;
  const int *last_use = s->order.last_use;
  int kept = 0, stamp = ++held->stamp;
  for (int i = 0; i < held->pending.count; i++) {
    int position = held->pending.at[i];
    if (at <= s->order.quiet_until.at[position]) {
      held->pending.at[kept++] = position;
      continue;
    }
    int t = s->order.template_of.at[position];
    if (s->order.kind.at[position] & CUT) {
      for (int j = found->make_start[t]; j < found->make_end[t]; j++)
        if (!held->swapped[found->makes.at[j]])
          push(s, &held->device, found->makes.at[j]);
      continue;
    }
    int dead = 0, live = 0, reads = found->read_end[t] - found->read_start[t];
    Bytes freed = 0, live_bytes = 0;
    for (int j = found->read_start[t]; j < found->read_end[t]; j++) {
      int v = found->reads.at[j];
      if (last_use[v] >= at) continue;
      int is_sum = held->held_stamp[v] == stamp && held->held_bytes[v] > nbytes[v];
      freed += is_sum ? held->held_bytes[v] : nbytes[v];
      dead++;
    }
    for (int j = found->make_start[t]; j < found->make_end[t]; j++) {
      int v = found->makes.at[j];
      held->held_bytes[v] = freed;
      held->held_stamp[v] = stamp;
      if (last_use[v] < at) continue;
      live_bytes += nbytes[v];
      live++;
    }
    if (live && freed > 2 * live_bytes) {
      for (int j = found->make_start[t]; j < found->make_end[t]; j++)
        if (last_use[found->makes.at[j]] >= at)
          push(s, &held->device, found->makes.at[j]);
    } else if (live && dead < reads) {
      held->pending.at[kept++] = position;
    }
  }
  held->pending.count = kept;
}

static void hold_all(Space *s, int at) {
  int bit = is_behind(s, at) ? 2 : 1;
  for (int i = 0; i < s->held.device.count; i++) {
    int v = s->held.device.at[i];
    if (!s->held.passes[v]) push(s, &s->held.values, v);
    s->held.passes[v] |= bit;
  }
}

/* Hold the inputs of recomputations until what they wait for exists. */
static void bar_recomputations(Space *s, int at) {
  const Program *p = &s->program;
  Held *held = &s->held;
  int awaited = held->awaited.at[at];
  held->device.count = 0;
  for (int i = held->inputs.at[at]; i != NONE; i = held->item_next.at[i])
    push(s, &held->device, held->item.at[i]);
  if (awaited == NONE && !list_token(s, at))
    for (int i = 0; i < p->cotangent_count; i++)
      push(s, &held->device, p->cotangents[i]);
  for (int i = awaited; i != NONE; i = held->item_next.at[i])
    push(s, &held->device, held->item.at[i]);
  hold_all(s, at);
  tie(s);
}

/* Hold the large inputs of a heavy entry, if there is anything to wait for. */
static void bar_heavy(Space *s, int at) {
  Held *held = &s->held;
  Templates *found = &s->templates;
  int t = s->order.template_of.at[at], is_late = held->stamp + 1;
  int is_listed = held->stamp + 2, is_next = !held->passed;
  held->stamp += 2;
  held->device.count = 0;
  list_anchors(s, at);
  mark_late(s, at, is_late);
  drop_marked(s, is_late);
  int anchors = held->device.count, kept = anchors;
  for (int i = found->read_start[t]; i < found->read_end[t] && !is_next; i++)
    is_next = held->after[found->reads.at[i]] == held->passed;
  if (!is_next) list_token(s, at);
  for (int g = s->places.done.at[at]; g != NONE; g = s->places.done_next.at[g])
    push(s, &held->device, value_of_gap(s, g));
  list_due(s, at);
  for (int i = 0; i < held->device.count; i++) {
    int v = held->device.at[i];
    if (i >= anchors && held->mark[v] != is_listed) held->device.at[kept++] = v;
    held->mark[v] = is_listed;
  }
  held->device.count = kept;
  int is_host = s->places.wait.at[at] != NONE || s->places.back.at[at] != NONE;
  if (kept == anchors && !is_host) return;
  hold_all(s, at);
  tie(s);
}

/* Hold what copies that nothing hides wait for. */
static void bar_late(Space *s, int at) {
  Held *held = &s->held;
  Templates *found = &s->templates;
  int t = s->order.template_of.at[at];
  held->device.count = 0;
  if (!list_token(s, at)) {
    mark_late(s, at, ++held->stamp);
    for (int i = found->read_start[t]; i < found->read_end[t]; i++) {
      int v = found->reads.at[i];
      if (s->program.producer[v] >= 0 && held->mark[v] != held->stamp)
        push(s, &held->device, v);
    }
  }
  hold_all(s, at);
}

static void clear_held(Space *s) {
  Held *held = &s->held;
  int count = s->order.template_of.count;
  size_t values = sizeof(int) * (size_t)s->program.values;
  for (int i = 0; i < held->values.count; i++) held->passes[held->values.at[i]] = 0;
  held->values.count = 0;
  memset(held->after, 0, values);
  memset(held->swapped, 0, values);
  for (int k = 0; k < s->copies.value.count; k++)
    held->swapped[s->copies.value.at[k]] = 1;
  if (held->stamp > 1 << 30) { /* Stamps count on from draft to draft. */
    held->stamp = 0;
    memset(held->mark, 0, values);
    memset(held->held_stamp, 0, values);
  }
  held->recent.count = held->pending.count = held->passed = 0;
  fill(s, &held->inputs, count, NONE);
  fill(s, &held->awaited, count, NONE);
  reserve(s, &held->inputs_end, count);
  reserve(s, &held->awaited_end, count);
  held->item.count = held->item_next.count = 0;
}

static void hold(Space *s) {
  Held *held = &s->held;
  int count = s->order.template_of.count, is_ordered = s->copies.value.count > 0;
  clear_held(s);
  for (int at = 0; at < count && !is_ordered; at++) is_ordered = is_recomputed(s, at);
  if (is_ordered) hold_back(s);
  for (int at = 0; at < count; at++) {
    if (held->inputs.at[at] != NONE) bar_recomputations(s, at);
    if (is_ordered && is_heavy(s, at)) bar_heavy(s, at);
    if (s->places.late.at[at] != NONE) bar_late(s, at);
    pass_by(s, at);
  }
}
