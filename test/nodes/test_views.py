# SPDX-License-Identifier: Apache-2.0
"""RViz and Foxglove are told of topics that the graph publishes, with the types that their displays take."""

import json
import re

import pytest
import rclpy
import yaml
from bundles import make_bundle
from rclpy.parameter import Parameter

from jepa_ros.nodes import conveyor_sim_node
from jepa_ros.nodes.controller_node import ControllerNode
from jepa_ros.nodes.perception_node import PerceptionNode
from jepa_ros.nodes.views import foxglove_layout, renamed, rviz_view

pytestmark = pytest.mark.ros
SHOWS = {'Camera': 'Image', 'Image': 'Image', 'PointCloud2': 'PointCloud2', 'Path': 'Path', 'Marker': 'Marker',
         'PoseWithCovariance': 'PoseWithCovarianceStamped', 'Pose': 'PoseStamped'}


@pytest.fixture(scope='module')
def published(tmp_path_factory):
    """The type of every topic that the nodes of the graph publish; of the simulator's, from its table."""
    bundle = make_bundle(tmp_path_factory.mktemp('bundle') / 'tiny')
    topics = {'/camera/image_raw': 'Image', '/camera/camera_info': 'CameraInfo'}
    said = dict(re.findall(r'``(~/\w+)``[^(]*\((?:\w+)/(\w+)', conveyor_sim_node.__doc__))
    poses = dict.fromkeys(('~/handle_pose', '~/camera_pose', '~/tool'), 'PoseStamped')
    for topic in conveyor_sim_node.TOPICS.values():
        topics[topic.replace('~', '/conveyor_sim')] = {**said, **poses}.get(topic, 'String')
    rclpy.init()
    try:
        for kind, more in ((PerceptionNode, {}), (ControllerNode, {
                'task': 'pick', 'gripper_open': [0.04], 'gripper_closed': [0.0]})):
            parameters = {'bundle': str(bundle), 'autostart': False, **more}
            node = kind(parameter_overrides=[Parameter(name, value=value) for name, value in parameters.items()])
            node.trigger_configure()
            topics.update({publisher.topic_name: publisher.msg_type.__name__ for publisher in node.publishers})
            node.stop()
            node.destroy_node()
    finally:
        rclpy.try_shutdown()
    return topics


def displays():
    return [display for display in yaml.safe_load(rviz_view().read_text())['Visualization Manager']['Displays']
            if 'Topic' in display]


def test_rviz_shows_topics_of_the_graph_with_the_right_displays(published):
    shown = {display['Topic']['Value']: display['Class'].removeprefix('rviz_default_plugins/') for display in displays()}
    assert {topic: SHOWS[kind] for topic, kind in shown.items()} == {topic: published.get(topic) for topic in shown}
    assert {'/camera/image_raw', '/perception/view', '/controller/handle_path', '/controller/intercept',
            '/controller/marker'} <= set(shown)


def test_rviz_asks_for_no_more_than_best_effort_of_a_camera():
    asked = {display['Topic']['Value']: display['Topic']['Reliability Policy'] for display in displays()}
    assert asked['/camera/image_raw'] == 'Best Effort'


def foxglove_topics(panels):
    """Return the topics that the panels name: as such, as keys of a scene, or at the head of a message path."""
    for name, panel in panels.items():
        yield from panel.get('topics', {})
        yield from panel.get('imageMode', {}).values()
        yield from (path['value'].split('.')[0] for path in panel.get('paths', ()))
        yield from [panel['topicToRender']] if 'topicToRender' in panel else ()


def test_foxglove_shows_topics_of_the_graph_in_panels_that_are_laid_out(published):
    layout = json.loads(foxglove_layout().read_text())
    topics = set(foxglove_topics(layout['configById']))
    assert topics <= set(published)
    assert {'/camera/image_raw', '/perception/view', '/controller/handle_path', '/controller/intercept',
            '/controller/state'} <= topics
    assert sorted(leaves(layout['layout'])) == sorted(layout['configById'])


def leaves(tree):
    """Return the panels of a layout's tree."""
    if isinstance(tree, str):
        return [tree]
    assert tree['direction'] in ('row', 'column') and 0 < tree['splitPercentage'] < 100
    return [*leaves(tree['first']), *leaves(tree['second'])]


@pytest.mark.parametrize('namespace, image_topic, camera, path', [
    ('', '', '/camera/image_raw', '/controller/handle_path'),
    ('robot', '', '/robot/camera/image_raw', '/robot/controller/handle_path'),
    ('/robot/left/', 'eye/image', '/robot/left/eye/image', '/robot/left/controller/handle_path'),
    ('robot', '/eye/image', '/eye/image', '/robot/controller/handle_path'),
])
def test_rviz_finds_the_topics_of_another_namespace_and_camera(namespace, image_topic, camera, path):
    view = rviz_view().read_text()
    shown = re.findall(r'Value: (/\S+)', renamed(view, namespace, image_topic))
    assert camera in shown and path in shown
    assert len(shown) == len(re.findall(r'Value: (/\S+)', view))
    assert yaml.safe_load(renamed(view, namespace, image_topic))
