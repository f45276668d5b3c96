"""A deepinv model beside a deepinv physics: both are handed over as they are."""

import deepinv

from instab_utils import audit, data, store, training


def trained_model():
    """Return deepinv's DnCNN with the weights of this book's.

    deepinv adds the last layer's output, ours subtracts it.
    """
    ours = store.load_or_train(training.recipe("dncnn")).network
    model = deepinv.models.DnCNN(
        in_channels=1,
        out_channels=1,
        depth=len(ours.convs),
        nf=ours.convs[0].out_channels,
        pretrained=None,
    )
    last = model.out_conv
    for mine, theirs in zip(ours.convs, [model.in_conv, *model.conv_list, last]):
        theirs.load_state_dict(mine.state_dict())
    last.weight.data.neg_()
    last.bias.data.neg_()
    return model.eval()


def main(profile="standard", budget_s=120, image_size=128, folder=None):
    physics = deepinv.physics.Denoising(deepinv.physics.GaussianNoise(25 / 255))
    model = trained_model()
    x, source = data.demo("natural", 2, image_size)
    options = audit.AuditOptions(profile=profile, network=model, source=source, noise=0.2)
    return audit.run(
        lambda y, physics: model(y, 25 / 255),
        physics,
        x,
        name="deepinv's DnCNN",
        budget_s=budget_s,
        folder=folder,
        options=options,
    )


if __name__ == "__main__":
    print(main()["summary"])
