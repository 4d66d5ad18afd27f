select
  frame_id,
  device_id,
  session_id,
  model_id,
  source_file_name,
  frame_number,
  timestamp,
  {%- for metric in ['total_count', 'this_frame_persons_count', 'num_individuals', 'number_of_groups', 'group_pixel_size'] %}
  max(case when class_name = '{{ metric }}' then count end) as {{ metric }},
  {%- endfor %}
  sum(case when class_name = 'number_of_persons_in_group' then count end) as persons_in_groups,
  max(case when class_name = 'number_of_persons_in_group' then count end) as persons_in_largest_group
from {{ ref('stg_unleash__analytics') }}
where is_metric
group by frame_id, device_id, session_id, model_id, source_file_name, frame_number, timestamp
