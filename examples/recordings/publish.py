from datarun import Client, Custom

with Client() as client:
    dataset = client.publish_data(
        "recordings",
        files=["recordings.zip", "specific.py"],
        workflow_elements="feature_extractor, classifier",
        split=Custom("specific.py"),
    )
    print(dataset, dataset.n_train, dataset.n_test, dataset.classes)
    report = client.cross_validate("submission/", dataset, cv=3)
    print(report)
